"""``torch.set_default_device`` decides where a user's tensors are made, not where ours are."""

import pytest
import torch

from evolution import Study
from runtime.corpus import load_corpus
from runtime.default_device import made_on
from runtime.masking import held_out_batches, mask_tokens, training_batches
from runtime.proxy import ProxyConfig, prepare
from runtime.search import search
from runtime.supernet import Supernet
from runtime.tokenizer import Sequences

META = torch.device("meta")
"""Stands in for a GPU: a tensor that is made there by mistake has no values, and what reads them fails."""


@pytest.fixture
def elsewhere():
    """The user's default device is not the CPU."""
    torch.set_default_device(META)
    yield
    torch.set_default_device(None)


def archive(run):
    with Study.open(run.study_path, readonly=True) as study:
        return [(c.canonical_hash, c.score) for c in study.candidates()]


def test_a_whole_search_is_the_same(tmp_path, corpus_file, tiny_config, request):
    here = search(tmp_path / "here", corpus=corpus_file, config=tiny_config).run
    request.getfixturevalue("elsewhere")
    there = search(tmp_path / "there", corpus=corpus_file, config=tiny_config).run
    assert archive(there) == archive(here)
    for name in ("supernet.safetensors", "best/model.safetensors"):
        assert (there.folder / name).read_bytes() == (here.folder / name).read_bytes()


@pytest.mark.usefixtures("elsewhere")
def test_a_supernet_is_made_and_read_on_the_cpu(tmp_path, tiny_config):
    Supernet.create(tiny_config.space, 300, 16, seed=0).save(tmp_path / "supernet.safetensors")
    read = Supernet.load(tmp_path / "supernet.safetensors")
    assert {weight.device.type for weight in read.tensors.values()} == {"cpu"}


@pytest.mark.usefixtures("elsewhere")
def test_batches_are_made_on_the_cpu_from_sequences_there(corpus_file):
    data = prepare(load_corpus(corpus_file), ProxyConfig(vocab_size=300, seq_len=16, held_out_sequences=8))
    batch = next(training_batches(data.train, 4, 300, 0))
    for tensor in (data.train.ids, data.held_out[0].labels, batch.input_ids, batch.key_mask, batch.labels):
        assert tensor.device.type == "cpu"


def test_batches_are_where_the_sequences_are():
    sequences = Sequences(
        torch.zeros(12, 16, dtype=torch.int64, device=META), torch.ones(12, 16, dtype=torch.bool, device=META)
    )
    batches = [next(training_batches(sequences, 4, 300, 0)), *held_out_batches(sequences, 4, 300, 0)]
    batches.append(mask_tokens(sequences.ids, sequences.key_mask, 300, torch.Generator().manual_seed(0)))
    for batch in batches:
        assert {x.device for x in (batch.input_ids, batch.key_mask, batch.labels)} == {META}


def test_a_context_leaves_the_default_as_it_was():
    with made_on("meta"):
        assert torch.empty(1).device == META
    assert torch.empty(1).device.type == "cpu"
