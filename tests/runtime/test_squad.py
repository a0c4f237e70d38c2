"""SQuAD's files and scores."""

import json
import math
from itertools import product

import pytest

from graphir import InputError
from runtime.tasks.squad import SQUAD, Answer, read_questions
from runtime.tasks.squad_scores import (
    best_threshold,
    exact_match,
    f1,
    normalized,
    score_answers,
    squad_1_metrics,
    squad_2_metrics,
)

CONTEXT = "The tower, finished in 1889, is 330 m high \U0001f5fc and stands in Paris."
START = CONTEXT.find("1889")


def entry(identity="q1", text="1889", start=START, **others):
    answers = [{"text": text, "answer_start": start}]
    return {"id": identity, "question": "When was it finished?", "answers": answers} | others


def write(path, *entries, context=CONTEXT):
    data = {
        "version": "x",
        "data": [{"title": "t", "paragraphs": [{"context": context, "qas": list(entries)}]}],
    }
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def read(path, version="squad"):
    return read_questions(SQUAD[version], path)


def test_questions_are_read(tmp_path):
    start = CONTEXT.find("Paris")
    path = write(tmp_path / "file", entry(), entry("q2", "Paris", start, question="Where?"))
    first, second = read(path)
    assert (first.id, first.context, first.answers) == ("q1", CONTEXT, (Answer("1889", 23),))
    assert (second.text, second.answers) == ("Where?", (Answer("Paris", start),))


def test_questions_without_an_answer_belong_to_version_2(tmp_path):
    path = write(
        tmp_path / "file", entry(), entry("q2", answers=[], is_impossible=True, plausible_answers=[])
    )
    assert [len(question.answers) for question in read(path, "squad2")] == [1, 0]
    with pytest.raises(InputError, match=r"qas\[1\] \(question 'q2'\): is_impossible is true; SQuAD 1.1"):
        read(path)


MALFORMED = [
    (entry(start=24), r"answers\[0\]: text '1889' is expected .* answer_start 24, where '889,' stands"),
    (entry(start=len(CONTEXT) - 2), r"does not lie within its context"),
    (entry(start=-1), r"does not lie within its context"),
    (entry(start="23"), r"answer_start is '23'; a whole number is expected"),
    (entry(start=None), r"answer_start is None; a whole number"),
    (entry(text=""), r"answers\[0\]: text is ''; text is expected"),
    (entry(text=7), r"answers\[0\]: text is 7; text is expected"),
    (entry(answers=[]), r"\(question 'q1'\): it has no answers; at least one is expected"),
    (entry(answers={}), r"\(question 'q1'\): answers is an object; a list is expected"),
    (entry(answers=["1889"]), r"answers\[0\]: it is '1889'; an object is expected"),
    (entry(question=None), r"\(question 'q1'\): question is None; text is expected"),
    (entry(is_impossible="no"), r"is_impossible is 'no'; true or false is expected"),
    ({"question": "?"}, r"data\[0\].paragraphs\[0\].qas\[0\]: id is missing"),
    (7, r"qas\[0\]: it is 7; an object is expected"),
    (entry(question="half of a pair \ud83d"), r"question holds half of a surrogate pair"),
]


@pytest.mark.parametrize(("broken", "problem"), MALFORMED)
def test_malformed_entries_are_refused_with_their_place(tmp_path, broken, problem):
    path = write(tmp_path / "file", broken)
    with pytest.raises(InputError, match=problem) as error:
        read(path)
    assert str(error.value).startswith(f"{path}, data[0].paragraphs[0].qas[0]")


def test_an_answer_to_a_question_that_has_none_is_refused(tmp_path):
    path = write(tmp_path / "file", entry(is_impossible=True))
    with pytest.raises(InputError, match=r"'q1'\): it has answers, and is_impossible is true"):
        read(path, "squad2")


def test_an_id_stands_for_one_question(tmp_path):
    path = write(tmp_path / "file", entry(), entry())
    with pytest.raises(
        InputError, match=r"qas\[1\]: the id 'q1' is that of data\[0\].paragraphs\[0\].qas\[0\] too"
    ):
        read(path)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", r"line 1, column 1: JSON is expected"),
        (b'{"data": [\n{"paragraphs": [}\n', r"line 2, column 17: JSON is expected"),
        (b'{"data": [{"title": "caf\xe9"}]}', r"byte 25 is not UTF-8"),
        (b'{"data": []}', r"it holds no questions"),
        (b"[]", r"at the top: it is a list; an object is expected"),
        (b"{}", r"at the top: data is missing"),
        (b'{"data": [{"title": "t"}]}', r"data\[0\]: paragraphs is missing"),
        (b"[" * 200_000, r"cannot be read as JSON"),
    ],
)
def test_files_that_are_no_squad_are_refused(tmp_path, content, problem):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(InputError, match=problem) as error:
        read(tmp_path / "file")
    assert str(tmp_path / "file") in str(error.value)


def test_a_hundred_megabytes_are_not_read_as_json(tmp_path):
    with (tmp_path / "file").open("wb") as file:
        file.truncate(100_000_000)
    with pytest.raises(InputError, match="larger than 80,000,000 bytes"):
        read(tmp_path / "file")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("The  U.S. Dollar", "us dollar"),
        ("an apple, a pear", "apple pear"),
        ("theatre-goers", "theatregoers"),
        ("\tA\n", ""),
        ("“quoted”", "“quoted”"),  # only ASCII punctuation is left out
    ],
)
def test_answers_are_normalized_as_the_official_scripts_do(answer, expected):
    assert normalized(answer) == expected


def test_scores_of_answers_by_hand():
    assert exact_match("the Eiffel Tower!", "Eiffel tower") == 1.0
    assert exact_match("Eiffel", "Eiffel tower") == 0.0
    # Without articles 3 common words of 3 and 4; then 2 of 3 and 4, with precision 2/3 and recall 2/4.
    assert f1("in the old tower", "an old tower in Paris") == pytest.approx(2 * 3 / (3 + 4))
    assert f1("old iron bridge", "an old tower of iron") == pytest.approx(
        2 * (2 / 3) * (2 / 4) / (2 / 3 + 2 / 4)
    )
    # A repeated word counts as often as both have it: 2 of 3 and 2 of 2.
    assert f1("no no no", "no no") == pytest.approx(2 * (2 / 3) * 1 / (2 / 3 + 1))
    assert f1("bridge", "tower") == 0.0
    assert (f1("the", "a"), f1("the", "a", empty_counts=True), f1("the", "x", empty_counts=True)) == (
        0.0,
        1.0,
        0.0,
    )


def test_the_best_gold_counts_and_a_missing_answer_is_wrong():
    golds = {"a": ["an old tower", "tower"], "b": ["1889"], "c": ["Paris"]}
    metrics = squad_1_metrics(golds, {"a": "the tower", "b": "in 1889"})
    assert metrics == {"exact_match": pytest.approx(100 / 3), "f1": pytest.approx(100 * (1 + 2 / 3) / 3)}


def test_no_answer_is_right_where_there_is_none():
    golds = {"a": ["tower"], "b": [], "c": [], "d": ["the"]}
    scores = score_answers(golds, {"a": "", "b": "", "c": "x", "d": ""}, unanswerable=True)
    # A gold without words ("the") asks for no answer, by the official script.
    assert scores.exact == scores.f1 == {"a": 0.0, "b": 1.0, "c": 0.0, "d": 1.0}


def test_metrics_of_version_2_by_hand():
    golds = {"a": ["old tower"], "b": ["Paris"], "c": [], "d": []}
    spans = {"a": "tower", "b": "Paris", "c": "x", "d": "y"}
    odds = {"a": -3.0, "b": 0.5, "c": -1.0, "d": 2.0}
    answered = {name: "" if odds[name] > 0 else span for name, span in spans.items()}
    metrics = squad_2_metrics(golds, answered, spans, odds)
    assert metrics == pytest.approx(
        {
            "exact": 25.0,  # d alone
            "f1": 100 * (2 / 3 + 0 + 0 + 1) / 4,
            "HasAns_exact": 0.0,
            "HasAns_f1": 100 * (2 / 3) / 2,
            "NoAns_exact": 50.0,
            "NoAns_f1": 50.0,
            # none answered: 2; up to a: 2; c: 1; b: 2; d: 1
            "best_exact": 50.0,
            "best_exact_thresh": 0.0,
            # 2; a: 2.67; c: 1.67; b: 2.67; d: 1.67
            "best_f1": 100 * (2 + 2 / 3) / 4,
            "best_f1_thresh": -3.0,
        }
    )


def test_no_threshold_is_better_than_the_best(fresh_seed):
    import random

    rng = random.Random(fresh_seed)
    names = [f"q{number}" for number in range(12)]
    odds = {name: rng.uniform(-2, 2) for name in names}
    answerable = {name for name in names if rng.random() < 0.6}
    scores = {name: rng.choice([0.0, 0.5, 1.0]) if name in answerable else 0.0 for name in names}
    spans = dict.fromkeys(names, "x")

    def mean(threshold):
        answered = {name for name in names if odds[name] <= threshold}
        right = sum(scores[n] for n in answered & answerable) + len(set(names) - answered - answerable)
        return right / len(names)

    best, threshold = best_threshold(scores, spans, odds, answerable)
    highest = max(mean(value) for value in (-math.inf, *odds.values()))
    assert best == pytest.approx(highest)
    if best > 1 - len(answerable) / len(names):
        assert mean(threshold) == pytest.approx(best)
    assert all(mean(value + shift) <= best + 1e-9 for value, shift in product(odds.values(), (-1e-6, 1e-6)))
