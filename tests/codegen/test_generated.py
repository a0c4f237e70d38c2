"""Generated modules: one a text, found by name, published whole, and gone when nobody uses them."""

from __future__ import annotations

import gc
import importlib
import inspect
import linecache
import pickle
import sys
import threading
import weakref

import pytest
import torch

from codegen import compile_attention
from codegen.generated import load_source, module_name
from graphir import AttentionGraph, presets

TEXT = '"""A text."""\n\n\ndef answer():\n    return {number}\n'


def test_one_text_is_one_module_that_others_can_import():
    source = TEXT.format(number=41)
    module = load_source(source, "text")
    assert load_source(source, "text") is module
    assert importlib.import_module(module_name(source, "text")) is module
    assert pickle.loads(pickle.dumps(module.answer)) is module.answer
    assert inspect.getsource(module.answer) == "def answer():\n    return 41\n"


def test_a_module_lives_as_long_as_its_functions_and_no_longer():
    source = TEXT.format(number=42)
    answer = load_source(source, "text").answer
    for number in range(2000):
        load_source(TEXT.format(number=-number), "text")
    gc.collect()
    assert importlib.import_module(module_name(source, "text")).answer is answer
    assert inspect.getsource(answer) == "def answer():\n    return 42\n"
    source = TEXT.format(number=43)
    module = load_source(source, "text")
    gone, filename = weakref.ref(module), module.__file__
    assert filename in linecache.cache
    del module
    gc.collect()
    assert gone() is None
    assert filename not in linecache.cache
    with pytest.raises(ModuleNotFoundError, match="generated in another process: send the graph"):
        importlib.import_module(module_name(source, "text"))


def test_a_text_that_fails_is_not_published():
    source = "half = 1\nraise RuntimeError('broken')\n"
    for _ in range(2):
        with pytest.raises(RuntimeError, match="broken"):
            load_source(source, "text", operators=True)
    assert module_name(source, "text") not in sys.modules


def test_many_threads_get_one_module_that_has_run_whole():
    # The second statement waits, so that the others arrive in the middle of it.
    source = "import time\n\ntime.sleep(0.2)\nvalue = 1\n"
    barrier, found = threading.Barrier(8), []

    def load():
        barrier.wait()
        module = load_source(source, "text")
        found.append((module, module.value))

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len({id(module) for module, _ in found}) == 1


def test_threads_that_compile_one_graph_share_its_operator():
    graph = AttentionGraph.from_expression("softmax(Q @ K.T) @ (Q + softsign(V))")
    barrier, found = threading.Barrier(4), []

    def work():
        barrier.wait()
        found.append(compile_attention(graph, "triton").function)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1


@pytest.mark.parametrize("backend", ["torch", "triton"])
def test_a_compiled_attention_is_pickled_as_its_graph(backend):
    attention = compile_attention(presets.get("autobert-zero/2"), backend)
    again = pickle.loads(pickle.dumps(attention))
    assert (again.graph, again.backend, again.wanted) == (attention.graph, backend, backend)
    assert again.function is attention.function
    assert len(pickle.dumps(attention)) < 5_000  # no source, no plan


@pytest.mark.parametrize("strict", [False, True])
def test_user_code_that_calls_a_compiled_graph_is_exported_and_compiled(strict):
    attention = compile_attention(presets.get("bert/1"), "torch")

    class Mine(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = attention

        def forward(self, x):
            return self.attention(x, x, x)

    x = torch.randn(1, 2, 6, 8)
    expected = attention(x, x, x)
    exported = torch.export.export(Mine(), (x,), strict=strict)
    torch.testing.assert_close(exported.module()(x), expected)
    torch.testing.assert_close(torch.compile(Mine(), backend="eager", fullgraph=True)(x), expected)
    torch.testing.assert_close(torch.compile(attention, backend="eager", fullgraph=True)(x, x, x), expected)
