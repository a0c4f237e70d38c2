"""The winner of the paper, one module a kind of layer, written by hand from its formulas and from nothing of ours.

Parameters have the names that the exported model gives them, so that weights can be handed over. `FAULTS` are those of
the public reproduction: with one of them the model is wrong.
"""

from __future__ import annotations

import math

import torch
from torch import nn

FAULTS = ("masks rows of queries", "adds the residual twice", "layer 12 lacks V")


def log_sigmoid(x):
    return torch.log(1 / (1 + torch.exp(-x)))


def softsign(x):
    return x / (1 + x.abs())


class Convolution(nn.Module):
    """A gate, then for every token the weighted mean of its neighbours, then a linear map."""

    def __init__(self, hidden_size, heads, kernel_size):
        super().__init__()
        self.heads = heads
        self.gate = nn.Linear(hidden_size, 2 * hidden_size)
        self.kernel = nn.Parameter(torch.empty(heads, kernel_size))
        self.output = nn.Linear(hidden_size, hidden_size)

    def forward(self, x, real, faults):
        left, right = self.gate(x).chunk(2, dim=-1)
        x = left * torch.sigmoid(right) * real[..., None]
        _, tokens, channels = x.shape
        weights = self.kernel.exp() / self.kernel.exp().sum(-1, keepdim=True)
        weights = weights.repeat_interleave(channels // self.heads, dim=0)  # a row a channel
        half = weights.shape[1] // 2
        total = torch.zeros_like(x)
        for tap in range(-half, half + 1):
            sources = [position + tap for position in range(tokens)]
            inside = [position for position, source in enumerate(sources) if 0 <= source < tokens]
            moved = torch.zeros_like(x)
            moved[:, inside] = x[:, [sources[position] for position in inside]]
            total = total + weights[:, tap + half] * moved
        return self.output(total)


class Attention(nn.Module):
    """Heads of softmax(Q K'^T / sqrt(D)) V' over real keys; a kind of layer says what K' and V' are."""

    inputs = "QKV"

    def __init__(self, hidden_size, heads):
        super().__init__()
        self.heads = heads
        self.root = math.sqrt(hidden_size / heads)
        self.query = nn.Linear(hidden_size, hidden_size) if "Q" in self.inputs else None
        self.key = nn.Linear(hidden_size, hidden_size) if "K" in self.inputs else None
        self.value = nn.Linear(hidden_size, hidden_size) if "V" in self.inputs else None
        self.output = nn.Linear(hidden_size, hidden_size)

    def forward(self, x, real, faults):
        given = [None if linear is None else linear(x) for linear in (self.query, self.key, self.value)]
        heads = []
        for head in zip(*([None] * self.heads if g is None else g.chunk(self.heads, -1) for g in given)):  # noqa: B905
            q, k, v = head
            keys, values = self.keys_and_values(q, k, v, faults)
            scores = q @ keys.transpose(1, 2) / self.root
            hidden = real[:, :, None] if FAULTS[0] in faults else real[:, None, :]
            scores = scores.masked_fill(~hidden, -1e9)
            heads.append(torch.softmax(scores, -1) @ values)
        return self.output(torch.cat(heads, -1))


class Layer2(Attention):
    inputs = "QK"

    def keys_and_values(self, q, k, v, faults):
        return -log_sigmoid(-k), q + k


class Layer4(Attention):
    inputs = "QK"

    def keys_and_values(self, q, k, v, faults):
        return -log_sigmoid(log_sigmoid(q) + (q + k)), q


class Layer6(Attention):
    inputs = "QK"

    def keys_and_values(self, q, k, v, faults):
        return -log_sigmoid(k), q


class Layer10(Attention):
    def keys_and_values(self, q, k, v, faults):
        return k / self.root + (softsign(softsign(k) / self.root) + v), v


class Layer12(Attention):
    def keys_and_values(self, q, k, v, faults):
        return k / self.root + (0 if FAULTS[2] in faults else v), v


class FeedForward(nn.Module):
    def __init__(self, hidden_size, ffn_size):
        super().__init__()
        self.inner = nn.Linear(hidden_size, ffn_size)
        self.outer = nn.Linear(ffn_size, hidden_size)

    def forward(self, x):
        x = self.inner(x)
        return self.outer(x * (1 + torch.erf(x / math.sqrt(2))) / 2)


class Layer(nn.Module):
    """Post-norm: a residual and a norm behind the mixer, and again behind the feed-forward block."""

    def __init__(self, mixer, hidden_size, ffn_size):
        super().__init__()
        self.mixer = mixer
        self.mixer_norm = nn.LayerNorm(hidden_size, eps=1e-12)
        self.ffn = FeedForward(hidden_size, ffn_size)
        self.ffn_norm = nn.LayerNorm(hidden_size, eps=1e-12)

    def forward(self, x, real, faults):
        x = self.mixer_norm(x + self.mixer(x, real, faults))
        doubled = FAULTS[1] in faults and isinstance(self.mixer, Convolution)
        return self.ffn_norm((2 if doubled else 1) * x + self.ffn(x))


class Winner(nn.Module):
    """Token ids [B, S] and which are real, bool [B, S], to logits [B, S, V]."""

    def __init__(self, hidden_size, heads, ffn_size, vocab_size, positions, faults=()):
        super().__init__()
        self.faults = faults
        self.token = nn.Embedding(vocab_size, hidden_size)
        self.position = nn.Embedding(positions, hidden_size)
        self.norm = nn.LayerNorm(hidden_size, eps=1e-12)
        kernel_sizes = (65, 9, 3, 7, 7, 3)
        kinds = (Layer2, Layer4, Layer6, Layer6, Layer10, Layer12)
        mixers = []
        for kernel_size, kind in zip(kernel_sizes, kinds, strict=True):
            mixers += [Convolution(hidden_size, heads, kernel_size), kind(hidden_size, heads)]
        self.layers = nn.ModuleList(Layer(mixer, hidden_size, ffn_size) for mixer in mixers)
        self.head_dense = nn.Linear(hidden_size, hidden_size)
        self.head_norm = nn.LayerNorm(hidden_size, eps=1e-12)
        self.head_bias = nn.Parameter(torch.empty(vocab_size))

    def exported_parameters(self):
        """Every parameter by the name that the exported masked language model gives it."""
        renamed = {
            "token.": "backbone.embeddings.token.",
            "position.": "backbone.embeddings.position.",
            "norm.": "backbone.embeddings.norm.",
            "layers.": "backbone.layers.",
            "head_dense.": "head.dense.",
            "head_norm.": "head.norm.",
            "head_bias": "head.decoder.bias",
        }
        return {
            new + name.removeprefix(old): parameter
            for name, parameter in self.named_parameters()
            for old, new in renamed.items()
            if name.startswith(old)
        }

    def forward(self, ids, real):
        x = self.norm(self.token(ids) + self.position(torch.arange(ids.shape[1])))
        for layer in self.layers:
            x = layer(x, real, self.faults)
        x = self.head_dense(x)
        x = self.head_norm(x * (1 + torch.erf(x / math.sqrt(2))) / 2)
        return x @ self.token.weight.T + self.head_bias
