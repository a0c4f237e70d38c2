"""Native kernels in PyTorch: their operators under autograd, torch.compile, torch.func, autocast and checkpointing."""

from __future__ import annotations

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils.checkpoint import checkpoint

from codegen.cpp.operators import native_attention, problem
from tests.codegen.native_attention import program
from tests.codegen.native_library import require_compiler

F = torch.nn.functional


@pytest.fixture(autouse=True)
def compiler():
    require_compiler()


def eager(name, q, k, v, key_mask=None):
    scores = q @ k.mT
    if name == "softsign":
        return F.softsign(scores) @ v
    bias = 0.0 if key_mask is None else torch.where(key_mask[:, None, None], 0.0, -1e30)
    return torch.softmax(scores / q.shape[-1] ** 0.5 + bias, -1) @ v


def draw(seed, *shape, dtype=torch.float32):
    leaves = torch.randn(3, *shape, generator=torch.Generator().manual_seed(seed)).to(dtype).unbind()
    return [x.clone().requires_grad_() for x in leaves]


def gradients(function, inputs, *settings):
    out = function(*inputs, *settings)
    return [out, *torch.autograd.grad((out * out).sum(), inputs)]


def assert_near(found, expected, rtol=1e-4, atol=1e-4):  # two orders of float32 sums of up to 70 terms
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b.to(a.dtype), rtol=rtol, atol=atol)


@pytest.mark.parametrize("name", ["softsign", "softmax"])
def test_the_gradient_is_that_of_pytorch_and_opcheck_agrees(name, fresh_seed):
    attention, inputs = native_attention(program(name)), draw(fresh_seed, 2, 2, 70, 16)
    assert_near(gradients(attention, inputs), gradients(lambda *x: eager(name, *x), inputs))
    operator = getattr(torch.ops.opnas, program(name).operator)
    torch.library.opcheck(operator, (*inputs, torch.ones(2, 70, dtype=torch.bool), None, 0.0))
    assert native_attention(program(name)) is attention


@pytest.mark.parametrize("name", ["softsign", "softmax"])
def test_torch_compile_takes_it_whole_and_once_for_all_lengths(name, fresh_seed):
    attention = native_attention(program(name))
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(lambda *x: attention(*x), fullgraph=True, dynamic=True, backend=counter)
    for tokens in (33, 40, 57):
        inputs = draw(fresh_seed, 2, 2, tokens, 8)
        assert_near(gradients(compiled, inputs), gradients(attention, inputs), 0.0, 0.0)
    # dropout_p is first taken for a variable and then, in a second attempt at the first length, for a constant.
    assert counter.frame_count <= 2


def test_torch_func_differentiates_and_maps_it(fresh_seed):
    attention, inputs = native_attention(program("softmax")), draw(fresh_seed, 3, 2, 12, 4)
    inputs = [x.detach() for x in inputs]

    def loss(q, k, v):
        return attention(q, k, v).square().sum()

    def one(q, k, v):
        return eager("softmax", q, k, v).square().sum()

    assert_near(torch.func.grad(loss, (0, 1, 2))(*inputs), torch.func.grad(one, (0, 1, 2))(*inputs))
    each = [x[:, None] for x in inputs]
    found = torch.func.vmap(torch.func.grad(loss, (0, 1, 2)))(*each)
    assert_near(found, torch.func.vmap(torch.func.grad(one, (0, 1, 2)))(*each))


def test_autocast_gives_its_own_type_and_float32_gradients(fresh_seed):
    attention, inputs = native_attention(program("softmax")), draw(fresh_seed, 2, 2, 30, 16)
    with torch.autocast("cpu", torch.bfloat16):
        out = attention(*inputs)
    assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    assert all(x.grad.dtype == torch.float32 for x in inputs)
    # The inputs and the result are rounded to eight bits.
    torch.testing.assert_close(out.float(), eager("softmax", *inputs), rtol=0.05, atol=0.05)


def test_checkpointing_draws_the_same_dropout_again(fresh_seed):
    attention, inputs = native_attention(program("softmax")), draw(fresh_seed, 2, 2, 30, 16)

    def run(wrapped):
        torch.manual_seed(fresh_seed)
        out = wrapped(*inputs)
        return [out, *torch.autograd.grad(out.square().sum(), inputs)]

    def plain(*x):
        return attention(*x, dropout_p=0.4)

    expected = run(plain)
    assert_near(run(lambda *x: checkpoint(plain, *x, use_reentrant=False)), expected, 0.0, 0.0)
    assert (expected[0] - attention(*inputs)).abs().max() > 0.01


def test_what_kernels_cannot_take_is_refused_by_name(fresh_seed):
    attention, (q, k, v) = native_attention(program("softmax")), draw(fresh_seed, 2, 2, 30, 16)
    assert "float64" in problem(q.double())
    assert "up to 256" in problem(torch.empty(1, 1, 1, 257))
    assert problem(q) == ""
    with pytest.raises(RuntimeError, match=r"float32, float16 and bfloat16, not torch\.float64"):
        attention(q.double(), k.double(), v.double())
    with pytest.raises(ValueError, match="all inputs must be alike"):
        attention(q, k[:, :, :7], v)
    with pytest.raises(ValueError, match=r"key_mask must be bool \[2, 30\]"):
        attention(q, k, v, torch.ones(2, 29, dtype=torch.bool))
    first = torch.autograd.grad(attention(q, k, v).square().sum(), q, create_graph=True)[0]
    with pytest.raises(RuntimeError, match="no second derivative"):
        first.sum().backward()


def test_no_tokens_are_no_work(fresh_seed):
    attention, inputs = native_attention(program("softmax")), draw(fresh_seed, 2, 2, 0, 16)
    out = attention(*inputs)
    assert out.shape == (2, 2, 0, 16)
    out.sum().backward()
