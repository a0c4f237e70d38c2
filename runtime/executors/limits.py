"""Limits of one candidate, and what is said where it exceeds them."""

from __future__ import annotations

from dataclasses import dataclass

GIGABYTE = 1e9


@dataclass(frozen=True)
class Limits:
    """What one candidate may take.

    Attributes:
        seconds: wall-clock time of its evaluation; None for no limit.
        memory_gb: resident memory of the process that evaluates it, in GB of 10^9 bytes. PyTorch by itself takes
            about 0.4. None for no limit.

    Example:
        >>> limits = Limits(seconds=60, memory_gb=2)
        >>> limits.too_slow, limits.too_large
        ('stopped after 60 s', 'needed more than 2.0 GB')
    """

    seconds: float | None = None
    memory_gb: float | None = None

    @property
    def memory_bytes(self) -> int | None:
        """The limit of memory in bytes."""
        return None if self.memory_gb is None else int(self.memory_gb * GIGABYTE)

    @property
    def too_slow(self) -> str:
        """The reason of a candidate that took too long."""
        return f"stopped after {self.seconds:g} s"

    @property
    def too_large(self) -> str:
        """The reason of a candidate that took too much memory."""
        memory = self.memory_gb or 0.0
        return f"needed more than {memory:.1f} GB" if memory >= 1 else f"needed more than {memory:.2g} GB"
