"""Bi-branch weight sharing (BIWS): one set of weights from which every candidate takes its own.

Each layer has two branches: one of attention (query, key, value and output projections shared by every
graph) and one of convolution (the weights of the largest kernel; a smaller kernel is its centre slice).
Embeddings, feed-forward blocks, LayerNorms and the head are shared by both. Source: Gao et al. 2022
(arXiv 2107.07445), the section on BIWS; that LayerNorms are shared is assumed.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.func import functional_call

from codegen import Backend, compile_backbone
from evolution import SearchSpace, fair_backbones
from graphir import AttentionGraph, AttentionLayer, Backbone, ConvLayer, Layer, OpnasError
from runtime.blank_weights import BlankWeights
from runtime.default_device import made_on
from runtime.masking import MaskedBatch
from runtime.training import MaskedLoss, Recipe, TrainingDiverged, Updater
from runtime.weights import save_weights

SUPERNET_FORMAT = "opnas.supernet/1"
MAX_SUPERNET_BYTES = 4_000_000_000
"""Largest supernet file that is read."""

_MIXER = re.compile(r"(layers\.\d+)\.mixer\.(.+)")


class SupernetError(OpnasError, ValueError):
    """A supernet file that cannot be read, or a module that does not fit the supernet."""


class Supernet:
    """The shared weights by name.

    Names are those of a candidate's ``state_dict``, with ``layers.<i>.mixer`` replaced by
    ``layers.<i>.attention`` or ``layers.<i>.conv``.

    Args:
        tensors: the weights; they are kept, not copied.
        backend: of the models that take their weights from here, as of `codegen.compile_backbone`.

    Raises:
        SupernetError: where the embeddings are missing.
    """

    def __init__(self, tensors: Mapping[str, Tensor], backend: Backend = "auto") -> None:
        self.tensors = dict(tensors)
        self.backend: Backend = backend
        for name in ("embeddings.token.weight", "embeddings.position.weight"):
            if name not in self.tensors:
                raise SupernetError(f"the supernet lacks {name}")

    @property
    def vocab_size(self) -> int:
        """Number of tokens."""
        return self.tensors["embeddings.token.weight"].shape[0]

    @property
    def max_positions(self) -> int:
        """Longest sequence."""
        return self.tensors["embeddings.position.weight"].shape[0]

    @classmethod
    def create(cls, space: SearchSpace, vocab_size: int, max_positions: int, seed: int) -> Supernet:
        """Fresh weights for every candidate of ``space``, initialised as codegen initialises a model.

        Args:
            space: gives the sizes and the largest kernel.
            vocab_size: number of tokens.
            max_positions: longest sequence.
            seed: of the initial values, on the CPU; the global generator is left as it was.
        """
        everything = AttentionGraph.from_expression("softmax(scale(Q @ K.T)) @ V", name="every projection")
        branches: list[Layer] = [AttentionLayer(everything)]
        if space.kernel_sizes:
            branches.append(ConvLayer(max(space.kernel_sizes)))
        tensors: dict[str, Tensor] = {}
        with torch.random.fork_rng(devices=[]), made_on("cpu"):
            torch.default_generator.manual_seed(seed)
            for branch in branches:
                backbone = Backbone(
                    (branch,) * space.layers, space.hidden_size, space.heads, space.ffn_size, name="branch"
                )
                module = compile_backbone(backbone, vocab_size, max_positions, 0.0, backend="torch")
                names = _shared_names(module)
                for name, weight in module.named_parameters():
                    tensors.setdefault(names[name], weight.detach().clone())
        return cls(tensors)

    @classmethod
    def load(cls, path: str | Path) -> Supernet:
        """Read what `save` wrote.

        Raises:
            SupernetError: where the file is too large or is no supernet.
            OSError: where it cannot be read.
        """
        path = Path(path)
        if path.stat().st_size > MAX_SUPERNET_BYTES:
            raise SupernetError(f"{path.name} is larger than {MAX_SUPERNET_BYTES:,} bytes")
        try:
            with safe_open(path, framework="pt") as file:
                found = (file.metadata() or {}).get("format")
                if found != SUPERNET_FORMAT:
                    raise SupernetError(
                        f"{path.name} has the format {str(found)[:60]!r}: "
                        f"this version reads {SUPERNET_FORMAT!r}"
                    )
                return cls({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 (not a dict)
        except SafetensorError as error:
            raise SupernetError(f"{path.name} is not a safetensors file: {str(error)[:120]}") from None

    def save(self, path: str | Path) -> None:
        """Write the weights as safetensors; ``path`` is never half-written."""
        save_weights(self.tensors, path, {"format": SUPERNET_FORMAT})

    def placed(self, device: torch.device | str, backend: Backend) -> Supernet:
        """The same weights on a device, for models of a backend."""
        return Supernet({name: weight.to(device) for name, weight in self.tensors.items()}, backend)

    def compile(self, backbone: Backbone) -> nn.Module:
        """The model of ``backbone``, with weights of its own: copies of those here.

        Raises:
            SupernetError: where the supernet lacks a weight of the model, or has it in another size.
        """
        module = self._blank(backbone)
        self.inherit(module)
        return module

    def _blank(self, backbone: Backbone) -> nn.Module:
        """The model of ``backbone`` for this supernet's vocabulary and length; its weights are yet to be set."""
        with made_on(self.tensors["embeddings.token.weight"].device), BlankWeights():
            return compile_backbone(backbone, self.vocab_size, self.max_positions, 0.0, self.backend)

    def views(self, module: nn.Module) -> dict[str, Tensor]:
        """For each parameter of ``module``, the part of the shared weights that is its own: a view.

        Raises:
            SupernetError: where the supernet lacks a weight of the module, or has it in another size.
        """
        names = _shared_names(module)
        return {name: self._view(names[name], weight) for name, weight in module.named_parameters()}

    @torch.no_grad()
    def inherit(self, module: nn.Module) -> None:
        """Copy into ``module`` the weights that it uses. The supernet does not change.

        Raises:
            SupernetError: where the supernet lacks a weight of the module, or has it in another size.
        """
        views = self.views(module)
        for name, weight in module.named_parameters():
            weight.copy_(views[name])

    @torch.no_grad()
    def absorb(self, module: nn.Module) -> None:
        """Write the weights of ``module`` back. What it does not use stays as it is.

        Raises:
            SupernetError: where the supernet lacks a weight of the module, or has it in another size.
        """
        views = self.views(module)
        for name, weight in module.named_parameters():
            views[name].copy_(weight)

    def _view(self, name: str, weight: Tensor) -> Tensor:
        shared = self.tensors.get(name)
        if shared is None:
            raise SupernetError(f"the supernet has no weight {name}: was it made for fewer layers?")
        if name.endswith(".conv.kernel") and shared.shape[-1] > weight.shape[-1]:
            start = (shared.shape[-1] - weight.shape[-1]) // 2
            shared = shared[:, start : start + weight.shape[-1]]
        if shared.shape != weight.shape:
            raise SupernetError(
                f"{name} is {tuple(shared.shape)} in the supernet and {tuple(weight.shape)} in the "
                "candidate: both must have the sizes of one search space"
            )
        return shared


def warm_up(
    supernet: Supernet,
    space: SearchSpace,
    batches: Iterator[MaskedBatch],
    steps: int,
    seed: int,
    *,
    recipe: Recipe | None = None,
    on_step: Callable[[int, float], None] | None = None,
) -> tuple[float, ...]:
    """Train the shared weights in place: each step takes a random backbone and trains the part it uses.

    This is single-path one-shot training (Guo et al. 2020) with backbones that use all choices equally often
    (`evolution.fair_backbones`). A weight that the backbone does not use keeps its value and its moments. A step
    whose loss or gradient is not finite is left out.

    Args:
        supernet: the weights.
        space: where backbones are drawn from.
        batches: at least ``steps`` batches.
        steps: number of backbones taken.
        seed: of their draws.
        recipe: how weights are updated; `Recipe` by default.
        on_step: called after each step with its number, from 1, and its loss.

    Returns:
        The losses of the steps that counted.

    Raises:
        TrainingDiverged: where more than half of the steps were left out.
    """
    backbones = fair_backbones(random.Random(seed), space)
    for weight in supernet.tensors.values():
        weight.requires_grad_(True)
    updater = Updater(supernet.tensors.values(), steps, recipe or Recipe())
    losses: list[float] = []
    try:
        for step in range(1, steps + 1):
            module = supernet._blank(next(backbones))
            weights = {f"model.{name}": view for name, view in supernet.views(module).items()}
            try:
                losses.append(updater.update(functional_call(MaskedLoss(module), weights, (next(batches),))))
            except TrainingDiverged:
                if step - len(losses) > steps // 2:
                    raise
                continue
            if on_step is not None:
                on_step(step, losses[-1])
    finally:
        for weight in supernet.tensors.values():
            weight.requires_grad_(False)
            weight.grad = None
    return tuple(losses)


def _shared_names(module: nn.Module) -> dict[str, str]:
    """The supernet's name of each parameter; a mixer that has a kernel is a convolution."""
    names = [name for name, _ in module.named_parameters()]
    convolutions = {name.removesuffix(".mixer.kernel") for name in names if name.endswith(".mixer.kernel")}
    shared = {}
    for name in names:
        mixer = _MIXER.fullmatch(name)
        if mixer is None:
            shared[name] = name
            continue
        layer, rest = mixer.groups()
        shared[name] = f"{layer}.{'conv' if layer in convolutions else 'attention'}.{rest}"
    return shared
