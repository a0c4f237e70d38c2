"""Autotuning: chosen by measuring, kept on disk, never a wrong result."""

from __future__ import annotations

import json

import pytest
import torch

from codegen import BackendError, compile_attention, tune_attention
from codegen.tile_sizes import candidates
from codegen.triton_program import triton_program
from graphir import AttentionGraph


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("OPNAS_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture
def attention():
    compiled = compile_attention(
        AttentionGraph.from_expression("softmax(scale(Q @ K.T)) @ K"), backend="triton"
    )
    tuned = compiled.function.__globals__["TUNED"]
    tuned.clear()
    yield compiled
    tuned.clear()


def draw():
    return torch.randn(3, 1, 1, 33, 8, generator=torch.Generator().manual_seed(0)).unbind()


def test_the_fastest_candidate_of_each_kernel_is_taken(cache, attention, monkeypatch):
    kernels = {kernel.name: kernel for kernel in triton_program(attention.graph).kernels}
    favourites = {name: candidates(kernel, "sm_90", 4, 16)[-1] for name, kernel in kernels.items()}
    tuned = attention.function.__globals__["TUNED"]

    def pretended(run, x, rounds):
        # The candidate that is being timed is the one that TUNED holds and that nobody has decided on yet.
        run()
        return sum(tuned.get((name, 16, 4)) != tiles for name, tiles in favourites.items())

    monkeypatch.setattr("codegen.autotune._median_seconds", pretended)
    monkeypatch.setattr("codegen.autotune.MAX_CANDIDATES", 99)
    q, k, _ = draw()
    before = attention(q, k, None)
    assert tune_attention(attention, q, k, None) == favourites
    # Other tiles add in another order.
    torch.testing.assert_close(attention(q, k, None), before, rtol=1e-5, atol=1e-6)


def test_results_are_read_from_disk_the_second_time(cache, attention, monkeypatch):
    q, k, _ = draw()
    first = tune_attention(attention, q, k, None, rounds=1)
    attention.function.__globals__["TUNED"].clear()
    monkeypatch.setattr("codegen.autotune._median_seconds", lambda *_: pytest.fail("measured again"))
    assert tune_attention(attention, q, k, None) == first
    assert len(list(cache.rglob("*.json"))) == 1
    assert not list(cache.rglob("*.tmp"))


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"forward_1": [0, 16, 4, 1]}', '{"forward_1": "x"}', "\x00"]
)
@pytest.mark.long
def test_a_broken_file_is_measured_again(text, cache, attention):
    q, k, _ = draw()
    first = tune_attention(attention, q, k, None, rounds=1)
    (path,) = cache.rglob("*.json")
    path.write_text(text)
    assert tune_attention(attention, q, k, None, rounds=1).keys() == first.keys()
    assert json.loads(path.read_text()).keys() == first.keys()


def test_the_torch_form_has_nothing_to_tune(attention):
    with pytest.raises(BackendError, match="no tiles to tune"):
        tune_attention(compile_attention(attention.graph, backend="torch"), *draw())


def test_what_cannot_be_kept_is_measured_all_the_same(tmp_path, monkeypatch, attention):
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("OPNAS_CACHE", str(tmp_path / "file"))
    q, k, _ = draw()
    with pytest.warns(UserWarning, match="nothing is kept"):
        tiles = tune_attention(attention, q, k, None, rounds=1)
    assert tiles.keys() == {kernel.name for kernel in attention.program.kernels}


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_backward_is_measured_whatever_mode_the_caller_is_in(mode, cache, attention):
    with mode():
        q, k, _ = draw()
        tiles = tune_attention(attention, q, k, None, rounds=1)
    assert any(name.startswith("backward") for name in tiles)
