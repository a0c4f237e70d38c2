"""What the proxy task of a search is: its sizes, its times and its space. Read without loading torch."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from evolution import SearchSpace
from graphir import InputError
from graphir.checks import check_number, check_whole
from graphir.devices import device_named
from graphir.validation import nearest
from runtime.special_tokens import MIN_VOCAB_SIZE

PROXY_SPACE = SearchSpace(layers=4, hidden_size=64, heads=4, ffn_size=128, plain_probability=0.5)
"""The space of the default search: the paper's layers, small enough for two cores. Half of its new attention layers are
plain attention: of 17 backbones of random graphs none looked anything up by content (docs/search.md)."""


LANGUAGE = "mlm"
"""Masked language modelling."""
MIXES = {"mix": (LANGUAGE, "recall")}
"""Proxies that are made of several tasks."""
TASKS = (LANGUAGE, "recall", "noisy-recall", "copying", "brackets", *MIXES)
"""What a proxy may be; those that are neither are probes (`runtime.probes`)."""

MAX_LATENCY_TOKENS = 2**24
_DEVICE = re.compile(r"[a-z]+(:\d+)?")
_BACKENDS = ("auto", "torch", "triton")


@dataclass(frozen=True)
class ProxyConfig:
    """Sizes and times of the proxy task. The defaults suit two cores and five minutes.

    Attributes:
        task: what candidates are judged by: ``mlm``, the name of a probe, or ``mix``, language modelling and recall.
        vocab_size: largest number of tokens of the tokenizer.
        seq_len: tokens of a sequence.
        batch_size: sequences of a step.
        held_out_sequences: most sequences that a candidate is judged on.
        held_out_seed: of the hidden tokens of these; the same for all candidates.
        warm_up_steps: steps of the supernet before it is frozen.
        warm_up_rate: highest learning rate of these steps.
        candidate_steps: steps of a candidate by itself: the ``budget`` that a search should give.
        candidate_rate: highest learning rate of these steps.
        probe_steps: steps of a candidate on a probe, from fresh weights.
        probe_rate: highest learning rate of these steps.
        device: what models are trained on: ``cpu``, ``cuda``, ``cuda:1`` ...; ``auto`` is a GPU where there is one. The
            same seed gives the same study on a CPU; on a GPU some of PyTorch's own sums have no fixed order.
        backend: of the models, as of `codegen.compile_backbone`.
        latency_device: a name of `graphir.devices`; each candidate then has the roofline latency there as a metric.
        latency_tokens: length of a sequence of that pass, and of the one whose operations are counted; None for
            ``seq_len``.
        measure_latency: whether each candidate's latency is measured here as well (`runtime.candidate_costs`).

    Raises:
        InputError: naming the field that is out of bounds.
    """

    task: str = "mix"
    vocab_size: int = 1024
    seq_len: int = 64
    batch_size: int = 32
    held_out_sequences: int = 512
    held_out_seed: int = 0
    warm_up_steps: int = 800
    warm_up_rate: float = 3e-3
    candidate_steps: int = 30
    candidate_rate: float = 1e-3
    probe_steps: int = 200
    probe_rate: float = 4e-3
    device: str = "auto"
    backend: Literal["auto", "torch", "triton"] = "auto"
    latency_device: str | None = None
    latency_tokens: int | None = None
    measure_latency: bool = False

    def __post_init__(self) -> None:
        for name, (low, high) in _BOUNDS.items():
            check_whole(getattr(self, name), name, low, high)
        if self.task not in TASKS:
            raise InputError(f"the proxy must be {', '.join(TASKS)}, not {str(self.task)[:40]!r}")
        for name in ("warm_up_rate", "candidate_rate", "probe_rate"):
            check_number(getattr(self, name), name, high=1.0, above=True)
        if not isinstance(self.device, str) or not _DEVICE.fullmatch(self.device):
            raise InputError(
                f"device must be auto, cpu, cuda or cuda:<number>, not {str(self.device)[:40]!r}"
            )
        if self.backend not in _BACKENDS:
            raise InputError(f"backend must be {', '.join(_BACKENDS)}, not {str(self.backend)[:40]!r}")
        if self.latency_device is not None:
            object.__setattr__(self, "latency_device", device_named(self.latency_device).name)
        if self.latency_tokens is not None:
            check_whole(self.latency_tokens, "latency_tokens", high=MAX_LATENCY_TOKENS)
        if not isinstance(self.measure_latency, bool):
            raise InputError("measure_latency must be true or false")

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Any) -> ProxyConfig:
        """Read what `to_dict` wrote; fields left out take their defaults.

        Raises:
            InputError: for unknown fields, or values that the constructor refuses.
        """
        if not isinstance(data, dict):
            raise InputError(f"a proxy configuration is an object of fields, not a {type(data).__name__}")
        known = [field.name for field in fields(cls)]
        for name in data:
            if name not in known:
                raise InputError(f"unknown field {str(name)[:60]!r}; {nearest(str(name), known)}")
        return cls(**data)


_BOUNDS = {
    "vocab_size": (MIN_VOCAB_SIZE, 1_000_000),
    "seq_len": (8, 65_536),
    "batch_size": (1, 65_536),
    "held_out_sequences": (1, 1_000_000),
    "held_out_seed": (0, 2**63 - 1),
    "warm_up_steps": (0, 1_000_000_000),
    "candidate_steps": (0, 1_000_000_000),
    "probe_steps": (1, 1_000_000_000),
}
