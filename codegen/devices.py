"""Devices as kernels see them: those of `graphir.devices`, and their memory on chip by target."""

from __future__ import annotations

from graphir.devices import DEVICES, Device

__all__ = ["DEVICES", "SHARED_MEMORY", "Device"]

SHARED_MEMORY = {device.target: device.shared_memory for device in DEVICES.values()}
"""Bytes of on-chip memory that one program may have, by target."""
