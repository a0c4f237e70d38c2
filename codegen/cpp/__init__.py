"""Native kernels for CPUs: C++17 text, built by the user's compiler and called through ctypes."""

from codegen.cpp.build import load_library
from codegen.cpp.compiler import Compiler, NativeBuildError, find_compiler
from codegen.cpp.library import with_library
from codegen.cpp.program import Kept, NativeProgram

__all__ = [
    "Compiler",
    "Kept",
    "NativeBuildError",
    "NativeProgram",
    "find_compiler",
    "load_library",
    "with_library",
]
