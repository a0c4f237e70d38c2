"""The user's C++ compiler: which one it is, what it builds for, and how it is called."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from codegen.cpp.openmp import openmp_runtime
from graphir import OpnasError

NAMES = ("c++", "g++", "clang++")
"""Where ``CXX`` names no compiler, the first of these that is installed."""
TIMEOUT_SECONDS = 300
"""A build takes about a second; a compiler that takes this long hangs."""

FLAGS: tuple[str, ...] = (
    "-std=c++17",
    # -O3 builds for up to four times as long and runs 5% faster: what matters is unrolled and vectorised by hand.
    "-O2",
    # a * b + c in one instruction also across statements; Clang's default is less. Twice the speed of products.
    "-ffp-contract=fast",
    # A square root is an instruction, without a call that would set errno.
    "-fno-math-errno",
    # Both sides of a selection may be computed: nobody reads the flags of floating-point exceptions.
    "-fno-trapping-math",
    # Nothing else of -ffast-math: infinities and NaN have their meaning (padding may hold them, a softmax begins at
    # minus infinity), sums keep their order, so that results are the same in every build.
    "-fno-exceptions",
    "-fno-rtti",
    "-fPIC",
    # What the C interface does not name cannot be called: the compiler may leave it out.
    "-fvisibility=hidden",
    # Vectors are handed on in registers of this processor, and no other library's.
    "-Wno-psabi",
    "-Wno-unknown-pragmas",
)


class NativeBuildError(OpnasError, RuntimeError):
    """Native kernels cannot be built or loaded here; the message says why, on one line."""


@dataclass(frozen=True)
class Compiler:
    """A compiler that works.

    Attributes:
        command: how it is called.
        flags: those of every build, ``-march=native`` included.
        link: what stands behind the source: the OpenMP runtime.
        identity: a hash of its version, of the flags and of the processor that it builds for.
    """

    command: tuple[str, ...]
    flags: tuple[str, ...]
    link: tuple[str, ...]
    identity: str

    def build(self, source: Path, library: Path) -> None:
        """Make a shared library. Raises `NativeBuildError` with the compiler's first complaint."""
        _run((*self.command, *self.flags, "-shared", "-o", str(library), str(source), *self.link))


def find_compiler() -> Compiler:
    """The compiler of ``CXX``, which may have arguments, or the first of `NAMES`; asked once a process.

    Raises:
        NativeBuildError: where there is none, or it does not run.
    """
    wanted = os.environ.get("CXX", "").strip()
    found = _examined(wanted, os.environ.get("PATH", ""))
    if isinstance(found, str):
        raise NativeBuildError(found)
    return found


@lru_cache(maxsize=8)
def _examined(wanted: str, path: str) -> Compiler | str:
    """The compiler, or why there is none: a broken one is not called again for every graph."""
    try:
        command = tuple(shlex.split(wanted)) if wanted else _first_installed()
    except ValueError as error:
        return f"CXX is no command ({error}): {wanted[:80]!r}"
    if not command:
        return f"there is no C++ compiler ({', '.join(NAMES)}): install one, or name one in CXX"
    runtime = openmp_runtime()
    flags = (*FLAGS, _native_flag(), *_openmp_flags())
    try:
        # All macros that it defines: they hold its version and each feature of the processor.
        macros = _run((*command, *flags, "-dM", "-E", "-x", "c++", os.devnull))
    except NativeBuildError as error:
        return str(error)
    # The runtime comes first, so that -fopenmp finds what it needs there and loads no second pool of threads.
    link = ("-Wl,--as-needed", str(runtime)) if runtime and sys.platform != "darwin" else ()
    text = "\0".join((macros, *command, *flags, *link))
    return Compiler(command, flags, link, hashlib.sha256(text.encode()).hexdigest())


def _first_installed() -> tuple[str, ...]:
    return next(((name,) for name in NAMES if shutil.which(name)), ())


def _native_flag() -> str:
    """For the processor of this machine; ARM's compilers call it so."""
    return "-mcpu=native" if platform.machine().lower() in ("aarch64", "arm64") else "-march=native"


def _openmp_flags() -> tuple[str, ...]:
    return ("-Xclang", "-fopenmp") if sys.platform == "darwin" else ("-fopenmp",)


def _run(command: tuple[str, ...]) -> str:
    """What a command prints. Raises `NativeBuildError`, also where it cannot be started or does not end."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_SECONDS,
            stdin=subprocess.DEVNULL,
            env=os.environ | {"LC_ALL": "C"},
        )
    except subprocess.TimeoutExpired:
        raise NativeBuildError(
            f"the C++ compiler {command[0]} did not end within {TIMEOUT_SECONDS} s"
        ) from None
    except OSError as error:
        raise NativeBuildError(f"the C++ compiler {command[0]} cannot be run: {error.strerror}") from None
    if done.returncode != 0:
        raise NativeBuildError(
            f"the C++ compiler {command[0]} failed ({done.returncode}): {_complaint(done.stderr)}"
        )
    return done.stdout


def _complaint(text: str) -> str:
    """The first line that speaks of an error, or the last of all."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if "error" in line.lower()]
    return (telling or lines[-1:] or ["it said nothing"])[0][:300]
