"""The comparison of `make results`: its jobs, its page, the mask of the public reproduction."""

from __future__ import annotations

import random
import re
import time
from dataclasses import asdict

import pytest
import torch

from graphir import AttentionLayer, InputError, presets
from runtime.eager import evaluate_eager
from runtime.jobs import Job, carry_out
from runtime.results.experiment import Experiment
from runtime.results.page import format_page
from runtime.results.query_row_mask import query_row_attention
from runtime.results.settings import ABLATIONS, BERT, COMPARED, LONG, QUICK, known_backbones

PLAIN = presets.get("bert/1")
REAL = torch.tensor([[True] * 3 + [False] * 2, [True] * 5])


def draw(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, 2, 2, 5, 4, generator=generator, dtype=torch.float64)


# -- the mask of the reproduction


def test_without_padding_the_mask_of_the_reproduction_is_no_other():
    q, k, v = draw()
    found = query_row_attention(PLAIN)(q, k, v, torch.ones(2, 5, dtype=torch.bool))
    torch.testing.assert_close(found, evaluate_eager(PLAIN, q, k, v))


def test_the_mask_of_the_reproduction_lets_real_tokens_see_padding_and_makes_padded_rows_means():
    q, k, v = draw()
    found = query_row_attention(PLAIN)(q, k, v, REAL)
    logits = q @ k.mT / 2.0
    logits[0, :, 3:] = -1e9  # what masked_fill over rows does: a row of equal logits
    torch.testing.assert_close(found, torch.softmax(logits, -1) @ v)
    assert not torch.allclose(found[0, :, :3], evaluate_eager(PLAIN, q, k, v, REAL)[0, :, :3])


# -- models


def test_the_ablation_has_plain_attention_and_nothing_else_differs():
    found = known_backbones(QUICK)
    winner = presets.get("autobert-zero").layers
    (between,) = (found[name].layers for name in ABLATIONS)
    assert [a == b for a, b in zip(winner, between, strict=True)] == [True, False] * 6
    assert all(layer.graph == PLAIN for layer in between if isinstance(layer, AttentionLayer))
    assert len({(b.hidden_size, b.heads, b.ffn_size, len(b.layers)) for b in found.values()}) == 1


# -- jobs


def count_up(folder, start):
    folder.mkdir()
    (folder / "made").write_text("x")
    return {"value": start + 1}


def fail(folder):
    folder.mkdir()
    raise RuntimeError("broken")


def test_a_job_that_has_its_result_is_not_done_again(tmp_path):
    told = []
    first = carry_out([Job("a/one", count_up, {"start": 1})], tmp_path, 0, told.append)
    assert first["a/one"]["value"] == 2
    again = carry_out([Job("a/one", fail, {}), Job("two", count_up, {"start": 5})], tmp_path, 0, told.append)
    assert again["a/one"] == first["a/one"]
    assert again["two"]["value"] == 6
    assert [line.split(":")[0] for line in told] == ["a/one", "two"]


def test_a_job_that_was_stopped_begins_again(tmp_path):
    with pytest.raises(RuntimeError, match="broken"):
        carry_out([Job("one", fail, {})], tmp_path, 0, print)
    assert carry_out([Job("one", count_up, {"start": 1})], tmp_path, 0, print)["one"]["value"] == 2


def where_code_goes(folder):
    from transformers.utils import HF_MODULES_CACHE

    folder.mkdir()
    while len([other for other in folder.parent.iterdir() if other.is_dir()]) < 2:
        time.sleep(0.02)  # until the other process has the other job
    return {"folder": str(HF_MODULES_CACHE)}


def test_processes_keep_the_code_of_folders_apart(tmp_path):
    done = carry_out(
        [Job("one", where_code_goes, {}), Job("two", where_code_goes, {})], tmp_path, 2, lambda line: None
    )
    assert done["one"]["folder"] != done["two"]["folder"]


def test_processes_give_the_results_that_one_gives(tmp_path):
    jobs = [Job(f"job-{number}", count_up, {"start": number}) for number in range(3)]
    done = carry_out(jobs, tmp_path, 2, lambda line: None)
    assert {key: result["value"] for key, result in done.items()} == {"job-0": 1, "job-1": 2, "job-2": 3}


# -- the page


def made_up(loss):
    """Results in which every number is known: ``loss[model]`` and its thousandths by seed."""

    def run(model, seed):
        return {
            "setting": {"learning_rate": 1e-3, "warm_up": 0.3},
            "seed": seed,
            "loss": loss[model] + seed / 1000,
            "accuracy": 0.5,
            "parameters": 1234,
            "curve": [[1, 9.0, 0.1], [2, 8.0, 0.2]],
        }

    settings = {**asdict(QUICK), "seeds": (0, 1, 2), "mask_seeds": (0, 1)}
    return {
        "settings": settings,
        "workers": 2,
        "machine": "a machine",
        "versions": {"torch": "2"},
        "data": {
            "train": "a.txt",
            "held_out": "b.txt",
            "train_bytes": 1_000_000,
            "vocab_size": 300,
            "majority": {"SST-2": 0.5},
        },
        "searched": {"summary": "convolution 3", "candidates": 3},
        "tuning": {model: [run(model, 0)] for model in COMPARED},
        "chosen": {model: run(model, 0)["setting"] for model in COMPARED},
        "pretraining": {model: [run(model, s) for s in range(3)] for model in COMPARED},
        "ablations": {model: [run(model, s) for s in range(3)] for model in ABLATIONS},
        "long": {model: run(model, 0) for model in LONG},
        "tasks": {model: {"SST-2": [{"seed": 0, "accuracy": 0.75}]} for model in COMPARED},
        "masks": {
            "keys": [{"seed": 0, "f1": 0.8}, {"seed": 1, "f1": 0.82}],
            "query_rows": [{"seed": 0, "f1": 0.7}, {"seed": 1, "f1": 0.72}],
        },
        "core_minutes": 3.0,
    }


LOSSES = dict(zip((*COMPARED, *ABLATIONS), (6.0, 5.0, 5.5, 5.2), strict=True))


def test_the_page_says_what_was_measured_with_its_spread():
    page = format_page(made_up(LOSSES))
    row = next(line for line in page.splitlines() if line.startswith("| BERT: ") and "1,234" in line)
    assert "| 6.001 ± 0.001 | 0.500 ± 0.000 | 0.750 |" in row
    assert "scaled down" in page.splitlines()[0]
    assert "is 1.000 below BERT's" in page
    assert "f1 0.810 ± 0.014 with keys masked, 0.710 ± 0.014 with query rows masked" in page.replace(
        "\n", " "
    )
    assert re.search(
        r"give\s+0\.800 of it; evolved attention .* gives \+0\.200, which\s+the spread over seeds tells", page
    )
    assert "the difference is\n+0.100. The spread over seeds tells" in page


def test_the_page_does_not_claim_what_the_spread_hides():
    results = made_up({**LOSSES, ABLATIONS[0]: 5.0001})
    results["masks"]["query_rows"] = [{"seed": 0, "f1": 0.6}, {"seed": 1, "f1": 0.95}]
    page = format_page(results)
    assert "the spread over seeds does not tell from nothing" in page
    assert "the mask alone does not explain" in page


def test_the_page_says_what_was_not_carried_out():
    whole = made_up(LOSSES)
    early = {
        name: part for name, part in whole.items() if name not in ("tasks", "masks", "ablations", "long")
    }
    page = format_page(early)
    assert page.count("Not carried out") == 4
    assert "6.001 ± 0.001" in page
    assert "Not carried out" not in format_page(whole)


# -- everything


def write_data(folder):
    draw = random.Random(0)
    words = [f"word{number}" for number in range(40)]
    (folder / "wikitext-2").mkdir()
    for name in ("valid.txt", "test.txt"):
        lines = [" ".join(draw.choices(words, k=30)) for _ in range(300)]
        (folder / "wikitext-2" / name).write_text("\n".join(lines), encoding="utf-8")
    columns = {"SST-2": "sentence\tlabel", "MRPC": "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String"}
    for task, header in columns.items():
        (folder / "glue" / task).mkdir(parents=True)
        for name in ("train.tsv", "dev.tsv"):
            rows = []
            for number in range(24):
                first, second = (" ".join(draw.choices(words, k=6)) for _ in range(2))
                label = number % 2
                rows.append(f"{first}\t{label}" if task == "SST-2" else f"{label}\t1\t2\t{first}\t{second}")
            (folder / "glue" / task / name).write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return folder


def test_data_that_is_missing_is_named_before_anything_is_done(tmp_path):
    with pytest.raises(InputError, match=r"wikitext-2.valid\.txt is missing"):
        Experiment(tmp_path, tmp_path / "out", QUICK, 0, print)
    assert not (tmp_path / "out").exists()


def test_results_of_other_sizes_are_not_taken_for_these(tmp_path):
    from dataclasses import replace

    data = write_data(tmp_path)
    Experiment(data, tmp_path / "out", QUICK, 0, print)
    Experiment(data, tmp_path / "out", replace(QUICK, seeds=(0, 1, 2)), 0, print)  # more seeds are more jobs
    with pytest.raises(InputError, match="begun with another steps"):
        Experiment(data, tmp_path / "out", replace(QUICK, steps=5), 0, print)


@pytest.mark.long
def test_everything_runs_and_is_not_done_twice(tmp_path):
    data, told = write_data(tmp_path), []
    results = Experiment(data, tmp_path / "out", QUICK, 2, told.append).run()
    assert len(results["tuning"][BERT]) == 3  # two rates, one more warm-up
    assert {task for runs in results["tasks"].values() for task in runs} == {"SST-2", "MRPC"}
    assert len(results["masks"]["query_rows"]) == 2
    page, done = format_page(results), len(told)
    assert format_page(Experiment(data, tmp_path / "out", QUICK, 2, told.append).run()) == page
    assert len(told) == done
