"""Kernels inside PyTorch: operators with fake and autograd formulas, under its transformations."""

from __future__ import annotations

import gc
import importlib.util
import re
import sys

import pytest
import torch
from torch._dynamo.testing import CompileCounter
from torch.utils.checkpoint import checkpoint

from codegen import BackendError, compile_attention
from codegen.generated import load_source
from graphir import AttentionGraph, presets

NAMES = ["bert/1", "autobert-zero/4", "linear-attention", "shared-qk"]
"""A softmax, a prepared row value, sums over the whole sequence with a softmax over it, two roles of one input."""


def draw(seed, shape=(2, 2, 21, 8), dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=dtype) for _ in range(3)]


def operator_of(graph):
    """The generated module's operators and the arguments of one call of each."""
    attention = compile_attention(graph, backend="triton")
    name = re.search(r"opnas::(attention_\w{16})", attention.source)[1]
    return attention, *(getattr(torch.ops.opnas, f"{name}{which}").default for which in ("", "_backward"))


def used(graph, tensors):
    return [tensor for name, tensor in zip("QKV", tensors, strict=True) if name in graph.inputs]


@pytest.fixture(params=NAMES)
def graph(request):
    return presets.get(request.param)


@pytest.fixture
def key_mask():
    mask = torch.ones(2, 21, dtype=torch.bool)
    mask[1, 13:] = False
    return mask


def test_opcheck_passes_forward_and_backward(graph, key_mask, fresh_seed):
    _, forward, backward = operator_of(graph)
    inputs = used(graph, draw(fresh_seed))
    has_dropout = len(forward._schema.arguments) > len(inputs) + 1
    extra = [torch.tensor([7]), 0.25] if has_dropout else []
    differentiable = [x.requires_grad_() for x in inputs]
    torch.library.opcheck(forward, (*differentiable, key_mask, *extra))
    results = forward(*inputs, key_mask, *extra)
    out, kept = (results, ()) if isinstance(results, torch.Tensor) else (results[0], results[1:])
    reads_out = len(backward._schema.arguments) - len(kept) - len(inputs) - 2 - len(extra) == 1
    names = [argument.name for argument in backward._schema.arguments]
    residuals = dict(zip([n for n in names[2 + len(inputs) + len(extra) :] if n != "out"], kept, strict=True))
    residuals |= {"out": out} if reads_out else {}
    tail = [residuals[name].detach() for name in names[2 + len(inputs) + len(extra) :]]
    plain = [x.detach() for x in inputs]
    torch.library.opcheck(backward, (torch.randn_like(out), *plain, key_mask, *extra, *tail))


def gradients(function, tensors, key_mask, **options):
    leaves = [x.clone().requires_grad_() for x in tensors]
    out = function(*leaves, key_mask, **options)
    out.square().sum().backward()
    return [out.detach(), *(x.grad for x in leaves if x.grad is not None)]


def test_torch_compile_keeps_the_operator_whole(graph, key_mask, fresh_seed):
    attention = compile_attention(graph, backend="triton")
    compiled = torch.compile(
        lambda q, k, v, mask: attention(q, k, v, mask), fullgraph=True, backend="aot_eager"
    )
    tensors = draw(fresh_seed)
    for found, expected in zip(
        gradients(compiled, tensors, key_mask), gradients(attention, tensors, key_mask), strict=True
    ):
        assert torch.equal(found, expected)


def test_one_compiled_function_serves_all_lengths(graph):
    attention = compile_attention(graph, backend="triton")
    counter = CompileCounter()
    compiled = torch.compile(
        lambda q, k, v: attention(q, k, v), fullgraph=True, dynamic=True, backend=counter
    )
    for tokens in (5, 21, 40):
        tensors = draw(0, (1, 2, tokens, 8))
        torch.testing.assert_close(compiled(*tensors), attention(*tensors))
    assert counter.frame_count == 1


def test_torch_export_holds_one_call_of_the_operator(graph, key_mask):
    attention = compile_attention(graph, backend="triton")

    class Layer(torch.nn.Module):
        def forward(self, q, k, v, mask):
            return attention(q, k, v, mask)

    tensors = draw(0)
    program = torch.export.export(Layer(), (*tensors, key_mask))
    calls = [node for node in program.graph.nodes if "opnas.attention" in str(node.target)]
    assert len(calls) == 1
    assert torch.equal(program.module()(*tensors, key_mask), attention(*tensors, key_mask))


def test_autocast_runs_the_kernels_in_the_short_type(graph, key_mask, fresh_seed):
    attention = compile_attention(graph, backend="triton")
    tensors = draw(fresh_seed)
    expected = gradients(attention, tensors, key_mask)
    with torch.autocast("cpu", torch.float16):
        leaves = [x.clone().requires_grad_() for x in tensors]
        out = attention(*leaves, key_mask)
    assert out.dtype == torch.float16
    out.float().square().sum().backward()
    found = [out.detach(), *(x.grad for x in leaves if x.grad is not None)]
    for mine, right in zip(found, expected, strict=True):
        # Rounded inputs and a rounded result, squared: a few units of 2^-11, of the largest entry.
        assert (mine.float() - right).abs().max() <= 32 * 2**-11 * right.abs().max()


def test_checkpointing_draws_the_same_dropout_again(graph, key_mask, fresh_seed):
    attention = compile_attention(graph, backend="triton")
    tensors = draw(fresh_seed)

    def recomputed(q, k, v, mask):
        return checkpoint(lambda *x: attention(*x, dropout_p=0.3), q, k, v, mask, use_reentrant=False)

    torch.manual_seed(3)
    expected = gradients(attention, tensors, key_mask, dropout_p=0.3)
    torch.manual_seed(3)
    for found, right in zip(gradients(recomputed, tensors, key_mask), expected, strict=True):
        assert torch.equal(found, right)


def test_the_backward_is_deterministic(graph, key_mask, fresh_seed):
    attention = compile_attention(graph, backend="triton")
    tensors = draw(fresh_seed)
    first, second = (gradients(attention, tensors, key_mask) for _ in range(2))
    assert all(torch.equal(one, two) for one, two in zip(first, second, strict=True))


def test_strided_inputs_are_read_where_they_are(graph, key_mask, fresh_seed):
    attention = compile_attention(graph, backend="triton")
    tensors = draw(fresh_seed)
    layouts = [
        [x.transpose(1, 2).contiguous().transpose(1, 2) for x in tensors],  # [B, S, H, D] in memory
        torch.stack(tensors, 3).unbind(3),  # q, k and v beside each other
        [x.mT.contiguous().mT for x in tensors],  # rows that are not contiguous: copied
    ]
    expected = gradients(attention, tensors, key_mask)
    for layout in layouts:
        leaves = [x.detach().requires_grad_() for x in layout]
        out = attention(*leaves, key_mask)
        out.square().sum().backward()
        found = [out.detach(), *(x.grad for x in leaves if x.grad is not None)]
        assert all(torch.equal(one, two) for one, two in zip(found, expected, strict=True))


@pytest.mark.parametrize("shape", [(0, 2, 5, 8), (2, 2, 0, 8)])
def test_nothing_gives_nothing(graph, shape):
    attention = compile_attention(graph, backend="triton")
    tensors = [torch.zeros(shape, requires_grad=True) for _ in range(3)]
    out = attention(*tensors)
    out.sum().backward()
    assert out.shape == shape


def test_float64_and_wide_heads_are_refused_by_name():
    attention = compile_attention(presets.get("bert/1"), backend="triton")
    with pytest.raises(BackendError, match="float64"):
        attention(*draw(0, dtype=torch.float64))
    with pytest.raises(BackendError, match="head dimensions up to 256"):
        attention(*draw(0, (1, 1, 2, 264)))


def test_without_the_interpreter_tensors_on_a_cpu_are_refused(monkeypatch):
    attention = compile_attention(presets.get("bert/1"), backend="triton")
    monkeypatch.setitem(attention.function.__globals__, "INTERPRETED", False)
    with pytest.raises(BackendError, match="on a GPU, and these are on cpu: use backend='auto' or 'torch'"):
        attention(*draw(0))


def test_auto_takes_the_torch_form_where_there_is_no_gpu(monkeypatch):
    graph = presets.get("bert/1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert compile_attention(graph).backend == "torch"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    attention = compile_attention(graph)
    assert attention.backend == "triton"
    monkeypatch.setitem(attention.function.__globals__, "INTERPRETED", False)
    # Tensors on a CPU, and float64, still work: by the PyTorch form.
    tensors = draw(1, dtype=torch.float64)
    expected = compile_attention(graph, backend="torch")(*tensors)
    assert torch.equal(attention(*tensors), expected)


def test_above_the_size_limit_a_product_of_squares_is_refused_with_its_bytes(monkeypatch):
    graph = AttentionGraph.from_expression("softsign(softmax(Q @ K.T) @ logsigmoid(K @ Q.T)) @ V")
    attention = compile_attention(graph, backend="triton")
    assert attention.plan.tier == "3"
    tensors = draw(0)
    stored = attention.plan.quadratic_bytes(21, heads=2, batch=2, element_size=4)
    monkeypatch.setitem(attention.function.__globals__, "MAX_STORED_BYTES", stored)
    attention(*tensors)
    monkeypatch.setitem(attention.function.__globals__, "MAX_STORED_BYTES", stored - 1)
    with pytest.raises(ValueError, match=f"would store {stored:,} bytes"):
        attention(*tensors)


def test_the_module_of_an_operator_stays_importable_after_thousands_of_others():
    function = compile_attention(presets.get("bert/1"), backend="triton").function
    for number in range(2000):
        load_source(f"number = {number}\n", "attention")
    # torch.compile imports the module by this name; it failed once the module was forgotten.
    assert sys.modules[function.__globals__["__name__"]].attention is function


def test_a_renamed_graph_shares_kernels_and_operators():
    graph = presets.get("bert/1")
    one, other = (compile_attention(g, backend="triton") for g in (graph, graph.renamed("another")))
    assert other.graph.name == "another"
    assert other.function is one.function
    assert other.program is one.program


def test_the_same_kernels_loaded_from_two_files_share_one_operator(tmp_path):
    # Registering under one name twice left the first function without its operator: out of memory, or worse.
    attention = compile_attention(presets.get("bert/1"), backend="triton")
    tensors = draw(0)
    expected = gradients(attention, tensors, None)
    copies = []
    for name in ("first", "second"):
        path = tmp_path / f"{name}.py"
        path.write_text(attention.source)
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        copies.append(module.attention)
    gc.collect()
    for function in (attention, *copies):
        for found, right in zip(gradients(function, tensors, None), expected, strict=True):
            assert torch.equal(found, right)


@pytest.mark.long
def test_torch_func_agrees_with_the_torch_form(graph, fresh_seed):
    kernels, plain = (compile_attention(graph, backend=b) for b in ("triton", "torch"))
    tensors = draw(fresh_seed, (1, 2, 5, 4))
    names = [n for n in range(3) if "QKV"[n] in graph.inputs]

    def gradient(function):
        return torch.func.grad(lambda *x: function(*x).square().sum(), argnums=tuple(names))(*tensors)

    def jacobian(function):
        return (torch.func.jacrev(lambda x: function(*(x if n == names[0] else t for n, t in enumerate(tensors))))
                (tensors[names[0]]),)  # fmt: skip

    def mapped_gradient(function):
        pairs = [torch.stack([x, x.flip(2)], 1) for x in tensors]
        return torch.vmap(
            torch.func.grad(lambda *x: function(*x).square().sum(), argnums=tuple(names)), in_dims=1
        )(*pairs)

    for transformed in (gradient, jacobian, mapped_gradient):
        for found, expected in zip(transformed(kernels), transformed(plain), strict=True):
            # Two forms of the same float32 sums.
            torch.testing.assert_close(found, expected, rtol=2e-4, atol=2e-5)


def test_a_mask_may_be_mapped_too(key_mask, fresh_seed):
    graph = presets.get("autobert-zero/10")
    attention = compile_attention(graph, backend="triton")
    q, k, v = draw(fresh_seed)
    masks = torch.stack([key_mask, key_mask.flip(0)])
    found = torch.vmap(attention, in_dims=(None, None, None, 0))(q, k, v, masks)
    for mine, mask in zip(found, masks, strict=True):
        torch.testing.assert_close(mine, attention(q, k, v, mask))


def test_what_kernels_cannot_do_is_refused_and_never_left_out(graph):
    attention = compile_attention(graph, backend="triton")
    tensors = draw(0)
    first = next(n for n in range(3) if "QKV"[n] in graph.inputs)
    leaf = tensors[first].requires_grad_()
    (slope,) = torch.autograd.grad(attention(*tensors).square().sum(), leaf, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivative: use the PyTorch form"):
        (slope.sum() + leaf.sum()).backward()
    with pytest.raises(NotImplementedError, match="forward mode AD"):
        torch.func.jvp(lambda x: attention(*(x if n == first else t for n, t in enumerate(tensors))),
                       (tensors[first],), (tensors[first],))  # fmt: skip


def test_inputs_that_do_not_fit_are_refused_by_the_operator_itself(key_mask):
    function = compile_attention(presets.get("bert/1"), backend="triton").function
    q, k, v = draw(0)
    for wrong in (k[:, :1], k.half(), k.to("meta")):
        with pytest.raises((ValueError, RuntimeError), match=r"must be alike|[Dd]evice"):
            function(q, wrong, v)
    for wrong in (key_mask[:, 1:], key_mask.float(), key_mask.to("meta")):
        with pytest.raises((ValueError, RuntimeError), match=r"key_mask must be bool|[Dd]evice"):
            function(q, k, v, wrong)


def test_residuals_may_come_back_in_another_layout(graph, fresh_seed):
    attention = compile_attention(graph, backend="triton")
    tensors = draw(fresh_seed)
    expected = gradients(attention, tensors, None)
    # As memory savers do: what was saved comes back, but its rows lie apart.
    apart = torch.autograd.graph.saved_tensors_hooks(
        lambda x: x, lambda x: torch.stack([x, x], -1)[..., 0] if x.is_floating_point() else x
    )
    with apart:
        found = gradients(attention, tensors, None)
    assert all(torch.equal(one, two) for one, two in zip(found, expected, strict=True))


@pytest.mark.parametrize("shape", [(0, 2, 5, 8), (2, 2, 0, 8)])
def test_an_empty_result_is_a_tensor_of_its_own(graph, shape):
    tensors = [torch.zeros(shape) for _ in range(3)]
    out = compile_attention(graph, backend="triton")(*tensors)
    assert all(out is not x and out._base is not x for x in tensors)
