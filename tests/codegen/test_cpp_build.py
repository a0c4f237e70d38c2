"""Building native libraries: the cache, several processes, broken and missing compilers, folders without room."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import sys
import warnings

import pytest
import torch

from codegen.cpp import NativeBuildError, find_compiler, load_library, with_library
from codegen.cpp.build import clear_loaded
from codegen.cpp.openmp import openmp_runtime
from tests.codegen.native_library import require_compiler

SMALL = 'extern "C" __attribute__((visibility("default"))) int answer() { return 42; }\n'


def _expect_the_answer():
    if load_library(with_library(SMALL)).answer() != 42:  # a text of the usual length
        sys.exit(1)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of its own; what this process has loaded is forgotten before and after."""
    monkeypatch.setenv("OPNAS_CACHE", str(tmp_path / "cache"))
    clear_loaded()
    yield tmp_path / "cache" / "native"
    clear_loaded()


@pytest.fixture
def compiler_of(tmp_path, monkeypatch):
    """``compiler_of(script)``: makes a shell script the compiler of this test, and counts its calls."""

    def install(script):
        path = tmp_path / "compiler"
        path.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n{script}\n')
        path.chmod(0o755)
        monkeypatch.setenv("CXX", str(path))
        return tmp_path / "calls"

    return install


def builds(calls):
    """How many calls of a recorded compiler made a library."""
    return sum(" -shared " in line for line in calls.read_text().splitlines())


def test_a_text_is_built_once_and_then_comes_from_the_cache(cache, compiler_of):
    require_compiler()
    calls = compiler_of('exec c++ "$@"')
    assert load_library(SMALL).answer() == 42
    assert load_library(SMALL) is load_library(SMALL)
    assert builds(calls) == 1
    clear_loaded()
    assert load_library(SMALL).answer() == 42
    assert builds(calls) == 1
    assert [path.suffix for path in cache.iterdir()] == [".so"]  # nothing temporary is left


def test_another_text_another_compiler_and_other_flags_are_built_anew(cache, compiler_of, monkeypatch):
    require_compiler()
    compiler_of('exec c++ "$@"')
    load_library(SMALL)
    load_library(SMALL.replace("42", "43"))
    assert len(list(cache.iterdir())) == 2
    monkeypatch.setenv(
        "CXX", f"{os.environ['CXX']} -DOTHER"
    )  # a flag that changes what the compiler predefines
    assert load_library(SMALL).answer() == 42
    assert len(list(cache.iterdir())) == 3


@pytest.mark.parametrize("content", [b"", b"not a library", b"\x7fELF"])
def test_a_damaged_file_in_the_cache_is_built_again(content, cache):
    require_compiler()
    load_library(SMALL)
    (kept,) = cache.iterdir()
    whole = kept.read_bytes()
    kept.unlink()  # a new file: the old one is mapped into this process
    kept.write_bytes(content)
    clear_loaded()
    assert load_library(SMALL).answer() == 42
    assert len(kept.read_bytes()) == len(whole)


def test_four_processes_that_build_one_text_at_once_all_get_it(cache):
    require_compiler()
    context = multiprocessing.get_context("fork")
    started = [context.Process(target=_expect_the_answer) for _ in range(4)]
    for process in started:
        process.start()
    for process in started:
        process.join(120)
    assert [process.exitcode for process in started] == [0] * 4
    assert len(list(cache.iterdir())) == 1


def test_without_a_compiler_the_error_says_what_would_be_right(cache, tmp_path, monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        NativeBuildError, match=r"there is no C\+\+ compiler .*: install one, or name one in CXX"
    ):
        load_library(SMALL)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (
            "echo 'cc1plus: fatal error: it is broken' >&2; exit 1",
            "failed \\(1\\): cc1plus: fatal error: it is broken",
        ),
        ("exit 3", "failed \\(3\\): it said nothing"),
        ("kill -9 $$", "failed \\(-9\\)"),
    ],
)
def test_a_broken_compiler_is_one_line_and_is_not_called_again(script, reason, cache, compiler_of):
    calls = compiler_of(script)
    for _ in range(2):
        with pytest.raises(NativeBuildError, match=reason) as caught:
            load_library(SMALL)
        assert "\n" not in str(caught.value)
    assert len(calls.read_text().splitlines()) == 1


@pytest.mark.parametrize("command", ["/nonexistent/c++", "'"])
def test_a_compiler_that_cannot_be_called_is_one_line(command, cache, monkeypatch):
    monkeypatch.setenv("CXX", command)
    with pytest.raises(NativeBuildError, match=r"cannot be run|CXX is no command"):
        load_library(SMALL)


def test_a_text_that_the_compiler_refuses_is_tried_once(cache, compiler_of):
    require_compiler()
    calls = compiler_of('exec c++ "$@"')
    for _ in range(2):
        with pytest.raises(NativeBuildError, match=r"error: .*nothing"):
            load_library("int f() { return nothing; }\n")
    assert builds(calls) == 1


def test_a_compiler_that_runs_out_of_room_is_an_error_and_leaves_nothing(
    cache, compiler_of, tmp_path, monkeypatch
):
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    compiler_of('case " $* " in *" -shared "*) echo "ld: error: No space left on device" >&2; exit 1;; esac')
    with pytest.raises(NativeBuildError, match="No space left on device"):
        load_library(SMALL)
    assert not list(place.iterdir())
    assert not cache.exists()


def test_a_cache_that_cannot_be_written_is_one_warning(cache):
    require_compiler()
    cache.parent.write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="nothing is kept in .* for the next time: Not a directory"):
        assert load_library(SMALL).answer() == 42
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_library(SMALL.replace("42", "43")).answer() == 43


def test_no_room_for_a_temporary_file_is_an_error(cache, monkeypatch):
    require_compiler()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("codegen.cpp.build.tempfile.TemporaryDirectory", full)
    with pytest.raises(NativeBuildError, match="No space left on device"):
        load_library(SMALL)


def test_kernels_run_on_the_threads_of_torch():
    """Both ask one OpenMP runtime: what torch sets is what the library sees."""
    require_compiler()
    if openmp_runtime() is None:
        pytest.skip("PyTorch has no OpenMP runtime here")
    library = load_library(
        with_library(
            'extern "C" int omp_get_max_threads(void);\n'
            "EXPORTED int threads() { return omp_get_max_threads(); }\n"
            "EXPORTED int region(int n) { int count = 0;\n"
            "#pragma omp parallel num_threads(n) reduction(+ : count)\n"
            "    count += 1;\n"
            "    return count; }\n"
        )
    )
    before = torch.get_num_threads()
    try:
        for threads in (3, 5):
            torch.set_num_threads(threads)
            assert library.threads() == threads
    finally:
        torch.set_num_threads(before)
    assert library.region(3) == 3


def test_every_program_runs_once_whatever_the_number_of_threads():
    require_compiler()
    library = load_library(
        with_library(
            "EXPORTED int marks(int* marks, long programs, int threads) {\n"
            "    return run(programs, threads, 1000, [=](long number, float* scratch) {\n"
            "        for (long i = 0; i < 1000; i++) scratch[i] = (float)number;\n"
            "        bool own = true;\n"
            "        for (long i = 0; i < 1000; i++) own &= scratch[i] == (float)number;\n"
            "        marks[number] += own;\n"
            "    });\n"
            "}\n"
        )
    )
    for programs in (0, 1, 7, 100):
        for threads in (0, 1, 3):
            marks = (ctypes.c_int * (programs + 1))()
            assert library.marks(marks, ctypes.c_long(programs), threads) == 1
            assert list(marks) == [1] * programs + [0]


def test_the_identity_of_a_compiler_is_that_of_its_processor_too():
    require_compiler()
    compiler = find_compiler()
    assert any("native" in flag for flag in compiler.flags)
    assert not any("fast-math" in flag for flag in compiler.flags)  # padding may hold NaN
    assert find_compiler() is compiler
