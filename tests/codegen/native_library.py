"""Small C++ texts on the native library, as functions of arrays, for the tests of the library."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from codegen.cpp import NativeBuildError, find_compiler, load_library, with_library


def require_compiler() -> None:
    """Skip a test, with the reason, where no native kernel can be built."""
    try:
        find_compiler()
    except NativeBuildError as error:
        pytest.skip(str(error))


def built(kernels: str) -> ctypes.CDLL:
    """The library of some kernels behind the library's own text."""
    require_compiler()
    return load_library(with_library(kernels), "test")


def pointer(x: np.ndarray) -> ctypes.c_void_p:
    """The address of an array, which must outlive the call."""
    return ctypes.c_void_p(x.ctypes.data)
