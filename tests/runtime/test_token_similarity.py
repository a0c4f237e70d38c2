"""Similarity of tokens by layer: against a direct double loop, and of models as users have them."""

import json
import shutil

import pytest
import torch

from codegen import compile_backbone
from graphir import AttentionLayer, Backbone, ConvLayer, InputError, presets
from runtime.model_folder import TrainedModel
from runtime.similarity_plot import draw_similarity
from runtime.token_similarity import TokenSimilarity, mean_similarity, similarity_table, token_similarity
from runtime.tokenizer import MIN_VOCAB_SIZE, train_tokenizer
from runtime.transformers_folder import save_for_transformers

TEXTS = [
    "The graph reads its inputs.",
    "",
    "one two",
    "every node holds a value, and every value has a type",
]


def by_two_loops(hidden, counted):
    """The definition, pair by pair, in float64; of one sequence [S, E]."""
    rows = hidden.double()[counted]
    total, pairs = 0.0, 0
    for i, one in enumerate(rows):
        for j, other in enumerate(rows):
            if i != j:
                total += (one @ other / (one.norm() * other.norm())).item()
                pairs += 1
    return total / pairs


def test_it_is_the_mean_over_pairs_of_different_tokens_that_count(fresh_seed):
    generator = torch.Generator().manual_seed(fresh_seed)
    hidden = torch.randn(4, 9, 6, generator=generator)
    counted = torch.rand(4, 9, generator=generator) < 0.6
    counted[:, :2] = True
    padded = hidden.masked_fill(~counted[..., None], torch.nan)
    found = mean_similarity(padded, counted)
    expected = [by_two_loops(*one) for one in zip(hidden, counted, strict=True)]
    # Sums of at most 72 products in float64.
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-13)


def test_equal_tokens_are_alike_and_orthogonal_ones_are_not():
    counted = torch.ones(1, 3, dtype=torch.bool)
    assert mean_similarity(torch.ones(1, 3, 4) * torch.tensor([1.0, 2.0, 3.0])[:, None], counted).item() == (
        pytest.approx(1.0)
    )
    assert mean_similarity(torch.eye(3)[None], counted).item() == 0.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory, transformers):
    """A tiny exported model with its tokenizer."""
    tokenizer = train_tokenizer(TEXTS, MIN_VOCAB_SIZE + 20)
    vocab_size = tokenizer.get_vocab_size()
    backbone = Backbone((ConvLayer(3), AttentionLayer(presets.get("bert/1"))), 16, 2, 24, name="two layers")
    torch.manual_seed(0)
    weights = compile_backbone(backbone, vocab_size, 32, backend="torch").state_dict()
    place = tmp_path_factory.mktemp("similarity") / "exported"
    place.mkdir()
    save_for_transformers(TrainedModel(backbone, weights, vocab_size, 32, {}, "Untrained."), place, tokenizer)
    return place


@pytest.fixture(scope="module")
def bert(tmp_path_factory, transformers, folder):
    """A BERT as transformers saves it, with the same tokenizer."""
    vocab_size = json.loads((folder / "config.json").read_text())["vocab_size"]
    config = transformers.BertConfig(
        vocab_size=vocab_size,
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=32,
    )
    place = tmp_path_factory.mktemp("similarity") / "bert"
    torch.manual_seed(0)
    transformers.BertForMaskedLM(config).save_pretrained(place)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(folder / name, place / name)
    return place


@pytest.mark.parametrize("kind", ["folder", "bert"])
def test_a_model_is_measured_on_texts_without_padding_and_special_tokens(transformers, kind, request):
    place = request.getfixturevalue(kind)
    found = token_similarity(place, TEXTS, max_tokens=20)
    model = transformers.AutoModel.from_pretrained(place, trust_remote_code=True).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(place, trust_remote_code=True)
    sums, tokens = [], 0
    for text in TEXTS:
        if not text:
            continue  # no token, no pair
        ids = tokenizer(text)["input_ids"][:19]
        ids = ids if ids[-1] == tokenizer.sep_token_id else [*ids, tokenizer.sep_token_id]
        counted = torch.tensor([token not in tokenizer.all_special_ids for token in ids])
        tokens += int(counted.sum())
        with torch.no_grad():
            states = model(torch.tensor([ids]), output_hidden_states=True).hidden_states
        sums.append([by_two_loops(state[0], counted) for state in states])
    assert (found.sequences, found.tokens) == (3, tokens)
    assert len(found.means) == model.config.num_hidden_layers + 1
    # Hidden states in float32, computed alone or in a padded batch.
    torch.testing.assert_close(torch.tensor(found.means), torch.tensor(sums).mean(0), rtol=0, atol=1e-5)


def test_the_command_prints_a_table_and_json_and_draws(opnas, folder, bert, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(TEXTS))
    plot = tmp_path / "plot.svg"
    code, out, _ = opnas("inspect", "--tokens", folder, "--against", bert, "--text", text, "--draw", plot)
    assert code == 0
    head, *lines = out.splitlines()[1:]
    assert head.split() == ["layer", "exported", "bert"]
    assert [line.split()[0] for line in lines[:4]] == ["embeddings", "1", "2", "3"]
    assert lines[3].split()[1] == "-"  # BERT has one layer more
    assert "mean cosine similarity of tokens" in plot.read_text()
    code, out, _ = opnas("inspect", "--tokens", folder, "--text", text, "--format", "json")
    assert code == 0
    (measured,) = json.loads(out)
    assert len(measured["means"]) == 3


def test_what_cannot_be_measured_is_refused(opnas, folder, tmp_path):
    code, _, err = opnas("inspect", "--tokens", tmp_path)
    assert code == 2
    assert "no config.json" in err
    shutil.copytree(folder, tmp_path / "bare")
    (tmp_path / "bare" / "tokenizer.json").unlink()
    code, _, err = opnas("inspect", "--tokens", tmp_path / "bare")
    assert code == 2
    assert "no tokenizer" in err
    with pytest.raises(InputError, match="no text has two tokens"):
        token_similarity(folder, TEXTS, max_tokens=3)  # [CLS], one token, [SEP]
    code, _, err = opnas("inspect", folder, "--against", folder)
    assert code == 2
    assert "--tokens" in err


def test_the_plot_does_not_depend_on_the_settings_of_the_user(tmp_path):
    import matplotlib

    measured = [TokenSimilarity("one", (0.1, 0.4), 3, 9), TokenSimilarity("other", (0.2, -0.3, 0.9), 3, 9)]
    draw_similarity(measured, tmp_path / "plain.svg")
    with matplotlib.rc_context({"lines.linewidth": 9.0, "axes.grid": True, "font.size": 30.0}):
        draw_similarity(measured, tmp_path / "other.svg")
    assert (tmp_path / "plain.svg").read_bytes() == (tmp_path / "other.svg").read_bytes()


def test_the_table_names_what_was_measured():
    table = similarity_table([TokenSimilarity("one", (0.1, 0.45678), 3, 1234)])
    assert table.splitlines()[1:] == [
        "layer         one",
        "embeddings  0.100",
        "1           0.457",
        "one: 3 sequences, 1,234 tokens",
    ]
