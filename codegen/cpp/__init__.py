"""Native kernels for CPUs: C++17 text, built by the user's compiler and called through ctypes."""

from codegen.cpp.build import NativeBuildError, load_library
from codegen.cpp.compiler import Compiler, find_compiler
from codegen.cpp.library import with_library

__all__ = ["Compiler", "NativeBuildError", "find_compiler", "load_library", "with_library"]
