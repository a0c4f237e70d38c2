"""What the jobs do: search, pretrain, fine-tune. Each returns numbers that are ready for JSON."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from graphir import Backbone

HELD_OUT_SEQUENCES = 512
EVALUATIONS = 8
"""On the way of a pretraining, the last one in its end."""


def search_backbone(
    folder: Path, text: Path, layers: int, sizes: dict[str, Any], proxy: dict[str, Any], candidates: int
) -> dict[str, Any]:
    """Search on the pretraining text; the best backbone and what it was chosen from.

    Args:
        folder: of the run.
        text: what is learnt from.
        layers: of a backbone.
        sizes: ``hidden_size``, ``heads`` and ``ffn_size``.
        proxy: fields of `ProxyConfig` that differ from its defaults.
        candidates: how many are evaluated.
    """
    from runtime.run_config import RunConfig
    from runtime.search import search

    default = RunConfig()
    config = replace(
        default,
        candidates=candidates,
        winner_steps=0,
        comparison_steps=0,
        space=replace(default.space, layers=layers, **sizes),
        proxy=replace(default.proxy, **proxy),
        strategy_settings={"population": min(10, candidates)},
        executor="local",  # other jobs have the other cores
    )
    outcome = search(folder, corpus=text, config=config)
    best = outcome.ranked[0]
    return {
        "backbone": best.backbone.to_dict(),
        "score": best.score,
        "candidates": candidates,
        "summary": ", ".join(_layer_name(layer) for layer in best.backbone.layers),
    }


def _layer_name(layer: Any) -> str:
    return f"convolution {layer.kernel_size}" if layer.kind == "conv" else f"`{layer.graph.equation()}`"


def pretrain_backbone(
    folder: Path, backbone: dict[str, Any], text: Path, held_out: Path, tokens: Path, settings: dict[str, Any]
) -> dict[str, Any]:
    """Pretrain a backbone; its held-out loss and accuracy in the end and on the way.

    Args:
        folder: of the model.
        backbone: as `Backbone.to_dict` has it.
        text, held_out: files.
        tokens: where tokenizer and token files are, made before.
        settings: fields of `Pretraining`.
    """
    from runtime.pretraining.pretrain import pretrain
    from runtime.pretraining.settings import Pretraining

    chosen = Pretraining(
        **settings,
        evaluate_every=max(1, settings["steps"] // EVALUATIONS),
        checkpoint_every=settings["steps"],
        held_out_sequences=HELD_OUT_SEQUENCES,
        device="cpu",
    )
    report = pretrain(
        Backbone.from_dict(backbone), text, folder, chosen, held_out=held_out, tokens=tokens, log=False
    )
    assert report.held_out is not None
    return {
        "setting": {name: settings[name] for name in ("learning_rate", "warm_up")},
        "seed": settings["seed"],
        "loss": report.held_out["loss"],
        "accuracy": report.held_out["accuracy"],
        "parameters": report.parameters,
        "tokens_per_second": report.tokens_per_second,
        "curve": [[e["steps"], e["loss"], e["accuracy"]] for e in report.evaluations],
    }


def finetune_model(
    folder: Path, model: Path, task: str, data: Path, settings: dict[str, Any], query_rows: bool = False
) -> dict[str, Any]:
    """Fine-tune a pretrained model on a task; the metrics of each seed.

    Args:
        folder: not used; nothing is kept.
        model: what `pretrain_backbone` wrote.
        task, data: as `finetune` takes them.
        settings: fields of `FineTuning`.
        query_rows: with the mask of the public reproduction, see `runtime.results.query_row_mask`.
    """
    from runtime.finetuning import FineTuning, finetune
    from runtime.results.query_row_mask import mask_query_rows

    def prepare(instance: Any) -> None:
        mask_query_rows(instance, Backbone.load(model / "backbone.json"))

    report = finetune(
        model, task, data, FineTuning(**settings, device="cpu"), prepare=prepare if query_rows else None
    )
    return {
        "seeds": [{"seed": result.seed, **result.metrics} for result in report.results],
        "examples": list(report.sizes),
    }
