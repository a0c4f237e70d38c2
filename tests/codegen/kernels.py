"""Generated kernels against the float64 reference, in Triton's interpreter."""

from __future__ import annotations

import numpy as np
import torch

from graphir import reference


def largest_errors(graph, attention, seed, dtype=torch.float32, tokens=37, head_dim=8, heads=2):
    """Errors of the result and of each gradient, relative to their scale.

    Three sequences: a full one, one half as long with its tokens scattered over the first three quarters, and one of
    padding only; NaN stands in padded rows. Rows lie apart, as one projection to all inputs leaves them.
    """
    rng = np.random.default_rng(seed)
    key_mask = np.stack([rng.permutation(tokens) < real for real in (tokens, tokens // 2, 0)])
    key_mask[1, tokens - tokens // 4 :] = False
    packed = torch.tensor(rng.standard_normal((3, tokens, heads, 4, head_dim)), dtype=dtype)
    drawn = dict(zip("QKVG", packed.transpose(1, 2).unbind(3), strict=True))
    q, k, v, grad = (drawn[name].double().numpy() for name in "QKVG")
    expected = [reference.evaluate(graph, q, k, v, key_mask)]
    expected += reference.gradients(graph, grad, q, k, v, key_mask).values()

    mask = torch.tensor(key_mask)
    for tensor in drawn.values():
        tensor[~mask[:, None, :].expand(tensor.shape[:3])] = torch.nan
    leaves = {name: drawn[name].requires_grad_() for name in graph.inputs}
    out = attention(*(leaves.get(name) for name in "QKV"), mask)
    found = [out.detach(), *torch.autograd.grad(out, list(leaves.values()), drawn["G"].detach())]
    errors = [
        np.abs(x.double().numpy() - truth).max() / max(1.0, np.abs(truth).max())
        for x, truth in zip(found, expected, strict=True)
    ]
    # max() may pass over NaN: it counts as infinitely wrong.
    return [float(np.nan_to_num(error, nan=np.inf)) for error in errors]
