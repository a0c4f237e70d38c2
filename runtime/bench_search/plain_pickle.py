"""Reading a pickle that holds numbers, texts, dicts, lists and tuples, and nothing else.

A pickle is a program, and a stranger's may do anything when it is read. Here every name that it asks for is refused
before anything of it exists, but for the two with which NumPy writes a number: they stand for functions of our own that
do nothing but read eight bytes as a number.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import struct
from pathlib import Path
from typing import Any

from graphir import InputError

MAX_BYTES = 64_000_000
"""Largest file that is read."""
MAX_MEMO = 10_000_000
"""Largest number of remembered objects. A file may claim any; room for them would be made at once."""


def read_plain_pickle(path: str | Path) -> Any:
    """What the file holds: numbers, texts, bytes, None, and dicts, lists and tuples of them.

    Raises:
        InputError: where it holds anything else, is too large, or is no pickle.
        OSError: where it cannot be read.
    """
    path = Path(path)
    with path.open("rb") as file:
        raw = file.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise InputError(f"{path.name} is larger than {MAX_BYTES:,} bytes: no table of this kind is")
    try:
        _check_memo(raw)
        value = _PlainUnpickler(io.BytesIO(raw)).load()
        _check_plain(value)
    except InputError as error:
        raise InputError(f"{path.name}: {error}") from None
    except (MemoryError, RecursionError):
        raise InputError(f"{path.name} asks for more memory than a table needs") from None
    except Exception as error:  # the bytes are a stranger's: whatever reading them raises, they are no table
        raise InputError(f"{path.name} is no table of numbers: {str(error)[:120]}") from None
    return value


class _Double:
    """Stands for the type of 64-bit numbers; the only one that is admitted."""

    __slots__ = ()

    def __init__(self, code: object, *_: object) -> None:
        if code != "f8":
            raise InputError(
                f"it holds numbers of the type {str(code)[:20]!r}: only plain and 64-bit ones are read"
            )

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] != "<":
            raise InputError("it holds numbers in another byte order than little-endian")


def _number(kind: object, raw: object) -> float:
    if not isinstance(kind, _Double) or not isinstance(raw, bytes) or len(raw) != 8:
        raise InputError("it holds a number that is not of eight bytes")
    return float(struct.unpack("<d", raw)[0])


_STAND_INS = {
    ("numpy.core.multiarray", "scalar"): _number,
    ("numpy._core.multiarray", "scalar"): _number,
    ("numpy", "dtype"): _Double,
}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _STAND_INS[module, name]
        except KeyError:
            raise InputError(
                f"it asks for {f'{module}.{name}'[:60]!r}: only numbers, texts, dicts, lists and tuples are read"
            ) from None

    def persistent_load(self, identity: Any) -> Any:
        raise InputError("it asks for objects that are kept elsewhere")


def _check_memo(raw: bytes) -> None:
    """Go through the file without doing what it says, and refuse one that claims room for too many objects."""
    for operation, argument, _ in pickletools.genops(raw):
        if operation.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > MAX_MEMO:
            raise InputError("it remembers more objects than a table has")


def _check_plain(value: Any) -> None:
    """Refuse whatever is not plain; a loop of references is found by its size."""
    waiting, seen = [value], set[int]()
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict | list | tuple):
            if id(item) in seen:
                continue
            seen.add(id(item))
            waiting.extend(item)
            if isinstance(item, dict):
                waiting.extend(item.values())
        elif item is not None and type(item) not in (bool, int, float, str, bytes):
            raise InputError(f"it holds a {type(item).__name__[:40]}: only numbers and texts are read")
