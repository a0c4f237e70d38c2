"""The benchmark of a whole model: as it is exported, against BERT of the same size as transformers has it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from torch import Tensor, nn

from graphir import Backbone, OpnasError
from graphir.checks import check_whole
from runtime.auto_classes import load_model_of, quiet_transformers
from runtime.bench import machine_facts
from runtime.export import export_backbone
from runtime.model_parts import PartTimes, time_parts
from runtime.special_tokens import PAD, SPECIAL_TOKENS
from runtime.timing import Timing, time_interleaved

BERT, GENERATED = "bert", "generated"
FORWARD, TRAINING = "forward", "training step"
Mask = Literal["full", "padded"]

_TOLERANCE = 1e-4
"""Of hidden states in float32 against float64; they are of the size of 1, and twelve layers lose about 1e-5."""


class WrongModelError(OpnasError, RuntimeError):
    """A model that computes something else in float32 than in float64: it is not timed."""


@dataclass(frozen=True)
class ModelSetting:
    """What is measured.

    Attributes:
        batch: sequences.
        seq_lens: lengths in tokens.
        masks: ``"full"`` for an attention mask of ones; ``"padded"`` for sequences that fill a quarter of the length to
            all of it.
        head: whether the masked-language-model heads and their loss take part; without, a loss of the last hidden
            states. The heads are the same on both sides, and with 30,522 tokens as much work as the layers.
        vocab_size: number of token ids.
        rounds: how often each model is timed, at least.
        part_rounds: how many training steps the times of parts are medians of; 0 to leave them out.
        seed: of weights and inputs.

    Raises:
        InputError: for a size below 1.
    """

    batch: int = 8
    seq_lens: tuple[int, ...] = (128, 512)
    masks: tuple[Mask, ...] = ("full", "padded")
    head: bool = False
    vocab_size: int = 30_522
    rounds: int = 5
    part_rounds: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        for what in ("batch", "rounds"):
            check_whole(getattr(self, what), what)
        check_whole(self.part_rounds, "part_rounds", low=0)
        check_whole(self.vocab_size, "vocab_size", low=len(SPECIAL_TOKENS) + 1)
        for seq_len in self.seq_lens:
            check_whole(seq_len, "seq_len", high=512)


@dataclass(frozen=True)
class ModelRow:
    """One measurement of both models.

    Attributes:
        what: `FORWARD`, without gradients, in evaluation mode; or `TRAINING`, forward, backward and AdamW's update,
            in training mode with dropout.
        seq_len: tokens of a sequence, padding included.
        mask: of `ModelSetting.masks`.
        tokens: real tokens of a batch.
        times: by model, `BERT` and `GENERATED`.
    """

    what: str
    seq_len: int
    mask: Mask
    tokens: int
    times: dict[str, Timing]

    def tokens_per_second(self, model: str) -> float:
        """Real tokens a second, by the median of the times."""
        return self.tokens / self.times[model].median

    @property
    def ratio(self) -> float:
        """How many times as many tokens a second the generated model takes as BERT."""
        return self.tokens_per_second(GENERATED) / self.tokens_per_second(BERT)


@dataclass(frozen=True)
class PartRow:
    """Where the time of training steps goes, with a full mask. ``times`` is by model."""

    seq_len: int
    times: dict[str, PartTimes]


@dataclass(frozen=True)
class ModelBenchmark:
    """A table of measurements.

    Attributes:
        name: of the backbone.
        setting: what was measured.
        machine: where: processor, threads, versions.
        parameters: how many there are, by model; embeddings of segments are BERT's alone.
        rows: measurements.
        parts: where the time goes, one a length.
    """

    name: str
    setting: ModelSetting
    machine: dict[str, str | int]
    parameters: dict[str, int]
    rows: tuple[ModelRow, ...]
    parts: tuple[PartRow, ...]

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON; times in seconds."""
        data = asdict(self)
        for row, written in zip(self.rows, data["rows"], strict=True):
            written["tokens_per_second"] = {name: row.tokens_per_second(name) for name in row.times}
            written["ratio"] = row.ratio
        return data


def benchmark_model(
    backbone: Backbone,
    setting: ModelSetting | None = None,
    progress: Callable[[str], None] | None = None,
) -> ModelBenchmark:
    """Time the exported form of ``backbone`` against ``transformers.BertModel`` with the same sizes and as many layers.

    BERT takes PyTorch's ``scaled_dot_product_attention`` and has no pooler, of which the other side has none either.
    Both have freshly drawn weights and the same dropout, and get the same batches.

    Args:
        backbone: exported to a temporary folder, and loaded from there by its Auto class.
        setting: sizes and rounds.
        progress: is told what is being done, a line at a time.

    Raises:
        WrongModelError: where the generated model's results are wrong; nothing is timed then.
    """
    setting = setting or ModelSetting()
    tell = progress or (lambda line: None)
    models = {BERT: make_bert(backbone, setting), GENERATED: load_exported(backbone, setting)}
    check_model(models[GENERATED], setting)
    rows: list[ModelRow] = []
    parts: list[PartRow] = []
    for seq_len in setting.seq_lens:
        for mask in setting.masks:
            tell(f"{seq_len} tokens, {mask} mask")
            rows += _measure(models, setting, seq_len, mask)
        if setting.part_rounds:
            tell(f"{seq_len} tokens, by part")
            parts.append(PartRow(seq_len, _measure_parts(models, setting, seq_len)))
    counts = {name: sum(p.numel() for p in model.parameters()) for name, model in models.items()}
    return ModelBenchmark(backbone.name, setting, machine_facts(), counts, tuple(rows), tuple(parts))


def make_bert(backbone: Backbone, setting: ModelSetting) -> Any:
    """BERT of the size of ``backbone``, with freshly drawn weights."""
    from transformers import BertConfig, BertForMaskedLM, BertModel

    config = BertConfig(
        vocab_size=setting.vocab_size,
        hidden_size=backbone.hidden_size,
        num_hidden_layers=len(backbone.layers),
        num_attention_heads=backbone.heads,
        intermediate_size=backbone.ffn_size,
        attn_implementation="sdpa",  # type: ignore[call-arg]  # any further setting is taken
    )
    with quiet_transformers(), _seeded(setting.seed):
        return BertForMaskedLM(config) if setting.head else BertModel(config, add_pooling_layer=False)


def load_exported(backbone: Backbone, setting: ModelSetting) -> Any:
    """The model that `opnas export` writes for ``backbone``, with freshly drawn weights."""
    with TemporaryDirectory() as place:
        folder = export_backbone(backbone, Path(place) / "benchmarked", setting.vocab_size, setting.seed)
        return load_model_of(folder, "AutoModelForMaskedLM" if setting.head else "AutoModel")


def check_model(model: nn.Module, setting: ModelSetting) -> None:
    """Refuse a model that differs from itself in float64 at a real token, with another token where there is padding.

    Raises:
        WrongModelError: saying by how much.
    """
    inputs = draw_batch(setting, min(setting.seq_lens), "padded")
    real = inputs["attention_mask"] != 0
    other = inputs | {"input_ids": inputs["input_ids"].masked_fill(~real, len(SPECIAL_TOKENS))}
    with torch.no_grad():
        found = _result(model.eval()(**inputs))[real]
        truth = _result(copy.deepcopy(model).double()(**other))[real]
    difference = (found - truth).abs().max().item()
    if not difference <= _TOLERANCE * max(1.0, truth.abs().max().item()):  # NaN, too
        raise WrongModelError(
            f"the model differs from itself in float64 by {difference:.2g}: it is not timed"
        )


def draw_batch(setting: ModelSetting, seq_len: int, mask: Mask) -> dict[str, Tensor]:
    """``input_ids`` and ``attention_mask``, int64 ``[B, S]``; lengths of padded sequences are spread evenly."""
    generator = torch.Generator().manual_seed(setting.seed)
    shape = (setting.batch, seq_len)
    ids = torch.randint(len(SPECIAL_TOKENS), setting.vocab_size, shape, generator=generator)
    shortest = max(1, seq_len // 4) if mask == "padded" else seq_len
    lengths = torch.linspace(seq_len, shortest, setting.batch).round().long()
    real = torch.arange(seq_len) < lengths[:, None]
    return {"input_ids": ids.masked_fill(~real, PAD), "attention_mask": real.long()}


def _measure(models: dict[str, Any], setting: ModelSetting, seq_len: int, mask: Mask) -> list[ModelRow]:
    inputs = draw_batch(setting, seq_len, mask)
    tokens = int(inputs["attention_mask"].sum())
    with torch.no_grad():
        functions = {name: _forward(model.eval(), inputs) for name, model in models.items()}
        forward = time_interleaved(functions, setting.rounds)
    steps = {}
    for name, model in models.items():
        loss, update = _training(model, setting, inputs)
        steps[name] = _step(loss, update)
    times = {FORWARD: forward, TRAINING: time_interleaved(steps, setting.rounds)}
    return [ModelRow(what, seq_len, mask, tokens, measured) for what, measured in times.items()]


def _measure_parts(models: dict[str, Any], setting: ModelSetting, seq_len: int) -> dict[str, PartTimes]:
    inputs = draw_batch(setting, seq_len, "full")
    return {
        name: time_parts(model, *_training(model, setting, inputs), rounds=setting.part_rounds)
        for name, model in models.items()
    }


def _forward(model: Any, inputs: dict[str, Tensor]) -> Callable[[], object]:
    return lambda: model(**inputs)


def _training(
    model: Any, setting: ModelSetting, inputs: dict[str, Tensor]
) -> tuple[Callable[[], Tensor], Callable[[], None]]:
    """The loss of a training step, and its update of the weights."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    generator = torch.Generator().manual_seed(setting.seed)
    shape = inputs["input_ids"].shape
    hidden = torch.rand(shape, generator=generator) < 0.15
    labels = inputs["input_ids"].masked_fill(~hidden | (inputs["attention_mask"] == 0), -100)
    target = torch.randn(*shape, model.config.hidden_size, generator=generator)

    def loss() -> Tensor:
        if setting.head:
            result: Tensor = model(**inputs, labels=labels).loss
            return result
        return (model(**inputs).last_hidden_state * target).mean()

    def update() -> None:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return loss, update


def _step(loss: Callable[[], Tensor], update: Callable[[], None]) -> Callable[[], None]:
    def step() -> None:
        loss().backward()
        update()

    return step


def _result(outputs: Any) -> Tensor:
    """Logits, or the last hidden states."""
    result: Tensor = outputs[0]
    return result


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
