"""Generated attention under what looks at a function instead of running it: compilers, tracers, transforms.

From 128 tokens on an ordinary call looks at the values of the mask; none of these may.
"""

from __future__ import annotations

import importlib
import sys

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad, gradgradcheck
from torch.func import grad, hessian, jacrev, jvp, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from codegen import compile_attention
from graphir import AttentionGraph, presets

# What PyTorch says of itself: transforms are written in a deprecated way, some operations have no batched form.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning"),
]

GRAPHS = {
    "fused": presets.get("bert/1"),
    "distances": AttentionGraph.from_expression("softmax(-euclidean_distance(Q, K)) @ V"),
    "stored": AttentionGraph.from_expression(
        "softsign(cosine_similarity(Q, K)) @ V + cosine_similarity(Q, V.T @ K)"
    ),
    "linear": presets.get("linear-cosine-attention"),
}
FORWARD_MODE = ("distances", "stored", "linear")
"""Those whose every operation has a forward-mode derivative; fused attention has none on a CPU."""

LONG = 520
LENGTHS = [7, LONG]


@pytest.fixture(params=GRAPHS)
def name(request):
    return request.param


@pytest.fixture
def function(name):
    return compile_attention(GRAPHS[name], "torch").function


def draw(seq_len, dtype=torch.float64, batch=2):
    generator = torch.Generator().manual_seed(seq_len)
    inputs = torch.randn(3, batch, 2, seq_len, 4, dtype=dtype, generator=generator).unbind()
    lengths = torch.tensor([[seq_len], [seq_len // 2]] * batch)[:batch]
    return inputs, torch.arange(seq_len) < lengths


def close(found, expected, tolerance=1e-9):
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


def per_sequence(function):
    """``function`` of one sequence, without a batch axis."""
    return lambda q, k, v, mask: function(q[None], k[None], v[None], mask[None])[0]


def gradients(function, inputs, mask):
    leaves = [x.clone().requires_grad_() for x in inputs]
    return torch.autograd.grad(function(*leaves, mask).sin().sum(), leaves)


# -- transforms of functions


@pytest.mark.parametrize("seq_len", LENGTHS)
def test_vmap_over_sequences_is_the_batched_call(function, seq_len):
    inputs, mask = draw(seq_len)
    close(vmap(per_sequence(function))(*inputs, mask), function(*inputs, mask))
    close(vmap(lambda q: function(q, *inputs[1:], mask))(inputs[0][None])[0], function(*inputs, mask))


@pytest.mark.parametrize("seq_len", LENGTHS)
def test_gradients_by_transform_are_those_of_autograd(function, seq_len):
    inputs, mask = draw(seq_len)
    expected = gradients(function, inputs, mask)
    close(grad(lambda *x: function(*x, mask).sin().sum(), argnums=(0, 1, 2))(*inputs), expected)
    each = vmap(grad(lambda *x: per_sequence(function)(*x).sin().sum(), argnums=(0, 1, 2)))
    close(each(*inputs, mask), expected)


def test_the_jacobian_is_that_of_autograd(function):
    (q, k, v), _ = draw(3, batch=1)
    expected = torch.autograd.functional.jacobian(lambda q: function(q, k, v), q)
    close(jacrev(lambda q: function(q, k, v))(q), expected)


@pytest.mark.parametrize("seq_len", LENGTHS)
def test_forward_mode_is_right_or_refused_by_pytorch(name, function, seq_len):
    (q, k, v), mask = draw(seq_len)
    along = torch.randn(q.shape, dtype=q.dtype, generator=torch.Generator().manual_seed(1))

    def by_transform():
        return jvp(lambda q: function(q, k, v, mask), (q,), (along,))[1]

    def by_dual_numbers():
        with forward_ad.dual_level():
            return forward_ad.unpack_dual(function(forward_ad.make_dual(q, along), k, v, mask)).tangent

    step = 1e-6
    expected = (function(q + step * along, k, v, mask) - function(q - step * along, k, v, mask)) / (2 * step)
    for derivative in (by_transform, by_dual_numbers):
        if name in FORWARD_MODE:
            # Central differences: the third derivative times 1e-12, and roundings of the result over 1e-6.
            close(derivative(), expected, 1e-8 * expected.abs().max().item() + 1e-7)
        else:
            with pytest.raises(NotImplementedError, match="forward"):
                derivative()


def test_second_derivatives_are_right_where_pytorch_has_them(name, function):
    (q, k, v), _ = draw(4, batch=1)
    leaves = [x.clone().requires_grad_() for x in (q, k, v)]
    mask = torch.tensor([[True, True, False, True]])
    if name == "fused":
        with pytest.raises(RuntimeError, match="not implemented"):
            gradgradcheck(function, leaves)
        return
    assert gradgradcheck(function, leaves)
    assert gradgradcheck(lambda *x: function(*x, mask), leaves)
    if name in FORWARD_MODE:
        expected = torch.autograd.functional.hessian(lambda q: function(q, k, v, mask).sum(), q)
        close(hessian(lambda q: function(q, k, v, mask).sum())(q), expected)


# -- tracers and fake tensors


def traced_by_jit(function, inputs, mask):
    return torch.jit.trace(function, (*inputs, mask), check_trace=False)


def traced_by_fx(mode):
    # A function of just these arguments: the tracer counts those of a signature, defaults included.
    return lambda function, inputs, mask: make_fx(lambda *x: function(*x), tracing_mode=mode)(*inputs, mask)


TRACERS = {
    "jit": traced_by_jit,
    "fx on real tensors": traced_by_fx("real"),
    "fx on fake tensors": traced_by_fx("fake"),
    "fx on symbols": traced_by_fx("symbolic"),
}


@pytest.mark.parametrize("tracer", TRACERS)
@pytest.mark.parametrize("seq_len", LENGTHS)
def test_a_trace_holds_for_other_masks(function, tracer, seq_len):
    inputs, mask = draw(seq_len)
    traced = TRACERS[tracer](function, inputs, mask)
    for other in (mask, mask.flip(0), mask.flip(1), torch.ones_like(mask)):
        close(traced(*inputs, other), function(*inputs, other))


@pytest.mark.parametrize("seq_len", LENGTHS)
def test_fake_and_meta_tensors_give_shapes(function, seq_len):
    shape, kept = (2, 2, seq_len, 4), (2, seq_len)
    meta = [torch.empty(shape, device="meta") for _ in range(3)]
    assert function(*meta, torch.empty(kept, dtype=torch.bool, device="meta")).shape == shape
    with FakeTensorMode():
        fake = [torch.empty(shape) for _ in range(3)]
        assert function(*fake, torch.ones(kept, dtype=torch.bool)).shape == shape
        assert function(*fake).shape == shape


# -- compilers


class Module(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, q, k, v, mask=None):
        return self.function(q, k, v, mask)


@pytest.fixture
def from_file(name, tmp_path, monkeypatch):
    """The function out of a file, as in an exported model: strict export imports the module that it reads."""
    module = f"generated_{name}"
    (tmp_path / f"{module}.py").write_text(compile_attention(GRAPHS[name], "torch").source)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module(module).attention
    del sys.modules[module]


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("strict", [True, False])
def test_one_exported_program_serves_all_lengths(from_file, strict, masked):
    inputs, mask = draw(40, torch.float32)
    given = (*inputs, mask) if masked else inputs
    length, batch = torch.export.Dim("length", min=2, max=1024), torch.export.Dim("batch", min=1, max=64)
    shapes = {name: {0: batch, 2: length} for name in "qkv"} | {
        "mask": {0: batch, 1: length} if masked else None
    }
    program = torch.export.export(
        Module(from_file),
        given,
        dynamic_shapes=shapes if masked else {name: shapes[name] for name in "qkv"},
        strict=strict,
    )
    for seq_len in (2, 127, 128, 600):
        inputs, mask = draw(seq_len, torch.float32, batch=3)
        given = (*inputs, mask) if masked else inputs
        # float32 sums of 600 terms, in another order.
        close(program.module()(*given), from_file(*given), 1e-4)


def test_torch_compile_takes_it_whole_and_for_all_lengths(function):
    torch.compiler.reset()
    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend="aot_eager")
    for seq_len in (40, 300, 530, 700):
        inputs, mask = draw(seq_len, torch.float32)
        leaves = [x.clone().requires_grad_() for x in inputs]
        found = compiled(*leaves, mask)
        # float32 sums of 700 terms, in another order.
        close(found, function(*leaves, mask), 1e-4)
        found.sum().backward()
        assert all(torch.isfinite(x.grad).all() for x in leaves)
