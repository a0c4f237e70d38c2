"""The kernels of the blocks inside PyTorch: operators with fake and autograd formulas, under its transformations."""

from __future__ import annotations

import importlib.util
import re

import pytest
import torch
from torch._dynamo.testing import CompileCounter
from torch.utils.checkpoint import checkpoint

from codegen.block_kernels import block_source, load_blocks
from tests.codegen.block_reference import EAGER, EPS, conv_case, gelu_case, norm_case

KERNELS = load_blocks()
VERSION = re.search(r"opnas\.layer_norm_(\w{16})\(", block_source())[1]


def case_of(block, seed, batch=2, tokens=9):
    match block:
        case "layer_norm":
            return norm_case(seed, (batch, tokens, 24))
        case "bias_gelu":
            return gelu_case(seed, (batch, tokens, 24))
    return conv_case(seed, tokens, 24, 2, 5)


@pytest.fixture(params=["layer_norm", "bias_gelu", "light_conv"])
def case(request, fresh_seed):
    return case_of(request.param, fresh_seed)


def operators(block):
    return [getattr(torch.ops.opnas, f"{block}_{VERSION}{which}").default for which in ("", "_backward")]


def test_opcheck_passes_forward_and_backward(case):
    forward, backward = operators(case.block)
    leaves = [x.clone().requires_grad_() for x in case.tensors]
    match case.block:
        case "layer_norm":
            x, residual, weight, bias = case.tensors
            seed = torch.tensor([7])
            torch.library.opcheck(forward, (*leaves, seed, EPS, 0.25))
            _, statistics = forward(x, residual, weight, bias, seed, EPS, 0.25)
            for dropout_p in (0.0, 0.25):
                torch.library.opcheck(backward, (case.grad, x, residual, weight, seed, statistics, dropout_p))
        case "bias_gelu":
            torch.library.opcheck(forward, leaves)
            torch.library.opcheck(backward, (case.grad, *case.tensors))
        case "light_conv":
            torch.library.opcheck(forward, (*leaves, *case.extra))
            torch.library.opcheck(backward, (case.grad, *case.tensors, *case.extra))


def test_torch_compile_keeps_the_operator_whole(case):
    function = getattr(KERNELS, case.block)
    torch.compiler.reset()
    compiled = torch.compile(lambda *x: function(*x), fullgraph=True, backend="aot_eager")
    for found, expected in zip(case.run(compiled), case.run(function), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("block", ["layer_norm", "bias_gelu", "light_conv"])
def test_one_compiled_function_serves_all_lengths(block):
    function, counter = getattr(KERNELS, block), CompileCounter()
    torch.compiler.reset()
    compiled = torch.compile(lambda *x: function(*x), fullgraph=True, dynamic=True, backend=counter)
    for tokens in (6, 21, 40):  # as no other axis, which PyTorch would take for the same
        case = case_of(block, 0, tokens=tokens)
        torch.testing.assert_close(compiled(*case.tensors, *case.extra), function(*case.tensors, *case.extra))
    assert counter.frame_count == 1


def test_torch_export_holds_one_call_of_the_operator(case):
    function = getattr(KERNELS, case.block)

    class Block(torch.nn.Module):
        def forward(self, *x):
            return function(*x, *case.extra[:1]) if case.block == "layer_norm" else function(*x)

    arguments = case.tensors if case.block == "layer_norm" else (*case.tensors, *case.extra)
    program = torch.export.export(Block(), arguments)
    calls = [node for node in program.graph.nodes if f"opnas.{case.block}" in str(node.target)]
    assert len(calls) == 1
    assert torch.equal(program.module()(*arguments), function(*case.tensors, *case.extra))


def test_checkpointing_draws_the_same_dropout_again(fresh_seed):
    case = norm_case(fresh_seed, (2, 9, 24))

    def dropped(*x):
        return KERNELS.layer_norm(*x[:4], EPS, 0.3)

    torch.manual_seed(3)
    expected = case.run(dropped)
    torch.manual_seed(3)
    recomputed = case.run(lambda *x: checkpoint(dropped, *x, use_reentrant=False))
    assert all(torch.equal(one, two) for one, two in zip(recomputed, expected, strict=True))


def test_the_backward_is_deterministic_and_takes_any_layout(case):
    function = getattr(KERNELS, case.block)
    expected = case.run(function)
    apart = [torch.stack([x, x], -1)[..., 0] for x in case.tensors]
    leaves = [x.detach().requires_grad_() for x in apart]
    out = function(*leaves, *case.extra)
    grad = case.grad.transpose(0, 1).contiguous().transpose(0, 1)
    found = [out.detach(), *torch.autograd.grad(out, leaves, grad)]
    assert all(torch.equal(one, two) for one, two in zip(found, expected, strict=True))


def test_an_expanded_gradient_is_taken(case):
    leaves = [x.clone().requires_grad_() for x in case.tensors]
    out = getattr(KERNELS, case.block)(*leaves, *case.extra)
    found = torch.autograd.grad(out.sum(), leaves)
    out = getattr(KERNELS, case.block)(*leaves, *case.extra)
    expected = torch.autograd.grad(out, leaves, torch.ones_like(out))
    assert all(torch.equal(one, two) for one, two in zip(found, expected, strict=True))


@pytest.mark.parametrize("shape", [(0, 5), (2, 0)])
@pytest.mark.parametrize("block", ["layer_norm", "bias_gelu", "light_conv"])
def test_nothing_gives_nothing(block, shape):
    case = case_of(block, 0)
    sizes = [(*shape, x.shape[-1]) if x.dim() == 3 else x.shape for x in case.tensors]
    leaves = [torch.zeros(size, requires_grad=True) for size in sizes]
    extra = (torch.ones(shape, dtype=torch.bool),) if block == "light_conv" else case.extra
    out = getattr(KERNELS, block)(*leaves, *extra)
    assert out.shape == (*shape, 24)
    out.sum().backward()
    assert all(x.grad is None or not x.grad.any() for x in leaves)


def test_torch_func_agrees_with_the_torch_form(case):
    fused, plain = getattr(KERNELS, case.block), EAGER[case.block]
    places = tuple(range(len(case.tensors)))

    def gradient(function):
        return torch.func.grad(lambda *x: function(*x, *case.extra).square().sum(), argnums=places)

    for found, expected in zip(gradient(fused)(*case.tensors), gradient(plain)(*case.tensors), strict=True):
        torch.testing.assert_close(
            found, expected, rtol=2e-4, atol=2e-5
        )  # two orders of the same float32 sums
    if case.block == "light_conv":
        return
    # Gradients of each sample: those of the parameters must not be added up over the mapped dimension.
    dims = tuple(0 if x.dim() == 3 else None for x in case.tensors)
    for found, expected in zip(
        torch.vmap(gradient(fused), in_dims=dims)(*case.tensors),
        torch.vmap(gradient(plain), in_dims=dims)(*case.tensors),
        strict=True,
    ):
        torch.testing.assert_close(found, expected, rtol=2e-4, atol=2e-5)


def test_what_kernels_cannot_do_is_refused_and_never_left_out(case):
    leaves = [x.clone().requires_grad_() for x in case.tensors]
    function = getattr(KERNELS, case.block)
    (slope,) = torch.autograd.grad(
        function(*leaves, *case.extra).square().sum(), leaves[0], create_graph=True
    )
    with pytest.raises(RuntimeError, match="no second derivative: use the PyTorch form"):
        (slope.sum() + leaves[0].sum()).backward()
    with pytest.raises(NotImplementedError, match="forward mode AD"):
        torch.func.jvp(lambda x: function(x, *leaves[1:], *case.extra), (leaves[0],), (leaves[0],))


def test_inputs_that_do_not_fit_are_refused_by_name(monkeypatch):
    (x, residual, weight, bias), (gate, kernel) = (
        case_of("layer_norm", 0).tensors,
        case_of("light_conv", 0).tensors,
    )
    mask = torch.ones(2, 9, dtype=torch.bool)
    for message, call in {
        r"residual must be \[2, 9, 24\]": lambda: KERNELS.layer_norm(x, residual[:1], weight, bias, EPS),
        r"bias must be \[24\]": lambda: KERNELS.layer_norm(x, residual, weight, bias[:4], EPS),
        r"bias must be \[24\], not \[3\]": lambda: KERNELS.bias_gelu(x, bias[:3]),
        r"bias: Triton kernels take float32, float16": lambda: KERNELS.bias_gelu(x, bias.double()),
        r"not torch.float64": lambda: KERNELS.bias_gelu(x.double(), bias.double()),
        r"must be odd and at most 65 tokens wide, not 67": lambda: KERNELS.light_conv(
            gate, torch.zeros(2, 67)
        ),
        r"must be odd and at most 65 tokens wide, not 4": lambda: KERNELS.light_conv(gate, torch.zeros(2, 4)),
        r"2 x 5 heads x head_dim\], not \[2, 9, 48\]": lambda: KERNELS.light_conv(gate, torch.zeros(5, 3)),
        r"key_mask must be bool \[2, 9\]": lambda: KERNELS.light_conv(gate, kernel, mask[:, 1:]),
        r"not torch.float32 \[2, 9\]": lambda: KERNELS.light_conv(gate, kernel, mask.float()),
    }.items():
        with pytest.raises((ValueError, RuntimeError), match=message):
            call()
    monkeypatch.setattr(KERNELS, "INTERPRETED", False)
    with pytest.raises(RuntimeError, match="need tensors on a GPU, and these are on cpu"):
        KERNELS.bias_gelu(x, bias)


def test_the_same_kernels_loaded_from_two_files_share_one_operator(tmp_path):
    case = case_of("bias_gelu", 0)
    expected = case.run(KERNELS.bias_gelu)
    for name in ("first", "second"):
        path = tmp_path / f"{name}.py"
        path.write_text(block_source())
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        for found, right in zip(case.run(module.bias_gelu), expected, strict=True):
            assert torch.equal(found, right)
