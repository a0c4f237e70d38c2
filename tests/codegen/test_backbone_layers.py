"""The layers of the generated model against NumPy written out by hand: what the public reproduction got wrong."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from codegen import compile_backbone
from graphir import AttentionLayer, Backbone, ConvLayer, presets

HIDDEN, HEADS, FFN, VOCABULARY, POSITIONS = 12, 3, 20, 30, 70
HEAD_DIM = HIDDEN // HEADS

# Float64 rounding of sums of some dozen terms.
TOLERANCE = 1e-12


def erf(x):
    return np.vectorize(math.erf)(x)


def gelu(x):
    return x * (1 + erf(x / np.sqrt(2))) / 2


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


class Numpy:
    """The model's weights, and its parts for one sequence ``[S, E]`` without padding."""

    def __init__(self, model):
        self.weights = {name: value.detach().numpy() for name, value in model.state_dict().items()}

    def linear(self, name, x):
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def norm(self, name, x):
        centred = x - x.mean(-1, keepdims=True)
        unit = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
        return unit * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def embeddings(self, ids):
        rows = self.weights["embeddings.token.weight"][ids]
        return self.norm("embeddings.norm", rows + self.weights["embeddings.position.weight"][: len(ids)])

    def attention(self, name, x, structure, inputs):
        heads = []
        for head in range(HEADS):
            part = slice(head * HEAD_DIM, (head + 1) * HEAD_DIM)
            heads.append(structure(*(self.linear(f"{name}.{which}", x)[:, part] for which in inputs)))
        return self.linear(f"{name}.output", np.concatenate(heads, -1))

    def conv(self, name, x):
        gate = self.linear(f"{name}.gate", x)
        x = gate[:, :HIDDEN] * sigmoid(gate[:, HIDDEN:])
        kernel = softmax(self.weights[f"{name}.kernel"])
        half = kernel.shape[1] // 2
        out = np.zeros_like(x)
        for position in range(len(x)):
            for channel in range(HIDDEN):
                for tap in range(kernel.shape[1]):
                    source = position + tap - half
                    if 0 <= source < len(x):
                        out[position, channel] += kernel[channel // HEAD_DIM, tap] * x[source, channel]
        return self.linear(f"{name}.output", out)

    def layer(self, number, x, mixer):
        """Residual, norm, feed-forward, residual, norm: each residual once."""
        name = f"layers.{number}"
        x = self.norm(f"{name}.mixer_norm", x + mixer(f"{name}.mixer", x))
        inner = gelu(self.linear(f"{name}.ffn.inner", x))
        return self.norm(f"{name}.ffn_norm", x + self.linear(f"{name}.ffn.outer", inner))

    def logits(self, x):
        x = self.norm("head.norm", gelu(self.linear("head.dense", x)))
        return x @ self.weights["embeddings.token.weight"].T + self.weights["head.bias"]


def plain(q, k, v):
    return softmax(q @ k.T / np.sqrt(HEAD_DIM)) @ v


def layer_2(q, k):
    keys = -np.log(sigmoid(-k))
    return softmax(q @ keys.T / np.sqrt(HEAD_DIM)) @ (q + k)


def layer_12(q, k, v):
    keys = k / np.sqrt(HEAD_DIM) + v
    return softmax(q @ keys.T / np.sqrt(HEAD_DIM)) @ v


MIXERS = {
    "bert/1": (plain, ["query", "key", "value"]),
    "autobert-zero/2": (layer_2, ["query", "key"]),
    "autobert-zero/12": (layer_12, ["query", "key", "value"]),
}


def compiled(*layers):
    """A model whose every weight is drawn large, so that no term can hide: biases and norms, too."""
    torch.manual_seed(0)
    model = compile_backbone(Backbone(layers, HIDDEN, HEADS, FFN), VOCABULARY, POSITIONS).eval().double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.5)
    return model, Numpy(model)


def assert_same_logits(model, expected_of, lengths):
    """Every sequence of a padded batch gives what the NumPy form gives for it alone."""
    longest = max(lengths)
    ids = torch.randint(VOCABULARY, (len(lengths), longest), generator=torch.Generator().manual_seed(1))
    key_mask = torch.arange(longest) < torch.tensor(lengths)[:, None]
    logits = model(ids, key_mask).detach().numpy()
    for row, length in enumerate(lengths):
        expected = expected_of(ids[row, :length].numpy())
        scale = max(1.0, np.abs(expected).max())
        assert np.abs(logits[row, :length] - expected).max() <= TOLERANCE * scale


@pytest.mark.parametrize("name", MIXERS)
def test_an_attention_layer_is_post_norm_with_each_residual_once(name):
    structure, inputs = MIXERS[name]
    model, form = compiled(AttentionLayer(presets.get(name)))

    def expected(ids):
        mixer = lambda part, x: form.attention(part, x, structure, inputs)  # noqa: E731
        return form.logits(form.layer(0, form.embeddings(ids), mixer))

    assert_same_logits(model, expected, [7, 4, 1])


@pytest.mark.parametrize("kernel_size", [1, 3, 9, 65])
def test_a_convolution_layer_is_post_norm_with_each_residual_once_and_reads_no_padding(kernel_size):
    model, form = compiled(ConvLayer(kernel_size))
    # With the kernel of 65 most taps fall outside of the sequence.
    assert_same_logits(
        model, lambda ids: form.logits(form.layer(0, form.embeddings(ids), form.conv)), [7, 3, 1]
    )


def test_layers_follow_each_other_in_order():
    structure, inputs = MIXERS["autobert-zero/12"]
    model, form = compiled(ConvLayer(3), AttentionLayer(presets.get("autobert-zero/12")), ConvLayer(5))

    def expected(ids):
        x = form.layer(0, form.embeddings(ids), form.conv)
        x = form.layer(1, x, lambda part, x: form.attention(part, x, structure, inputs))
        return form.logits(form.layer(2, x, form.conv))

    assert_same_logits(model, expected, [9, 5])


def test_a_token_outside_of_the_kernel_is_not_read():
    model, _ = compiled(ConvLayer(5))
    ids = torch.arange(12)[None]
    changed = ids.clone()
    changed[0, 6] = 29
    reached = (model(ids) != model(changed)).any(-1)[0]
    assert reached.tolist() == [4 <= position <= 8 for position in range(12)]
