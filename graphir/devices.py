"""Devices by name: what plans and tile sizes need to know of them. Peaks are those of the data sheets, dense."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphir.checks import excerpt
from graphir.errors import InputError

if TYPE_CHECKING:
    from graphir.cost import Cost


@dataclass(frozen=True)
class Device:
    """A GPU.

    Attributes:
        name: as people call it.
        target: what kernels are built for, e.g. ``sm_90`` or ``gfx942``.
        matrix_flops: operations a second of products of 16-bit matrices.
        vector_flops: operations a second on float32 vectors.
        bandwidth: bytes a second of its memory.
        shared_memory: bytes that one program may have of on-chip memory.
    """

    name: str
    target: str
    matrix_flops: float
    vector_flops: float
    bandwidth: float
    shared_memory: int


DEVICES = {
    device.name: device
    for device in (
        Device("A100", "sm_80", 312e12, 19.5e12, 2.04e12, 163 * 1024),
        Device("H100", "sm_90", 989e12, 66.9e12, 3.35e12, 227 * 1024),
        Device("H200", "sm_90", 989e12, 66.9e12, 4.8e12, 227 * 1024),
        Device("B200", "sm_100", 2250e12, 75e12, 7.7e12, 227 * 1024),
        Device("MI300X", "gfx942", 1307e12, 163.4e12, 5.3e12, 64 * 1024),
    )
}


def device_named(name: str) -> Device:
    """The device of a name, however it is written.

    Raises:
        InputError: for an unknown one, with those that are known.

    Example:
        >>> device_named("h100").target
        'sm_90'
    """
    for device in DEVICES.values():
        if device.name.casefold() == str(name).casefold():
            return device
    raise InputError(f"unknown device {excerpt(name)}: there are {', '.join(DEVICES).lower()}")


def roofline_seconds(cost: Cost, device: Device) -> float:
    """The shortest time that ``cost`` takes on ``device`` where everything is fused: that of its operations at the
    peak of matrix products, or that of its memory traffic, whichever is longer.

    Numbers must have been counted at 2 bytes each: the peak is that of 16-bit matrices.

    Example:
        >>> from graphir import presets
        >>> from graphir.cost import backbone_cost
        >>> cost = backbone_cost(presets.get("bert"), seq_len=4096, element_size=2)
        >>> roofline_seconds(cost, DEVICES["A100"]) > roofline_seconds(cost, DEVICES["H100"])
        True
    """
    return max(cost.flops / device.matrix_flops, cost.bytes_fused / device.bandwidth)
