"""Questions as sequences of tokens, and back from logits to answers."""

import random

import numpy as np
import pytest

from graphir import InputError
from runtime.tasks.squad import Answer, Question
from runtime.tasks.squad_answers import answer_questions
from runtime.tasks.squad_features import Window, encode_questions
from runtime.tokenizer import train_tokenizer

WORDS = [
    "tower",
    "river",
    "Paris",
    "café",
    "330",
    "1889",
    "iron",
    "new",
    "runs",
    "über",
    "\U0001f5fc",
    "city",
]


def questions_about(rng, lengths, answered=True):
    """Questions whose answers are words of their paragraphs."""
    questions = []
    for number, length in enumerate(lengths):
        words = [rng.choice(WORDS) for _ in range(length)]
        first = rng.randrange(length)
        last = min(length, first + rng.randint(1, 3))
        start = len(" ".join([*words[:first], ""])) if first else 0
        answers = (Answer(" ".join(words[first:last]), start),) if answered else ()
        questions.append(Question(f"q{number}", "where is the tower", " ".join(words), answers))
    return questions


@pytest.fixture(scope="module")
def tokenizer(transformers):
    trained = train_tokenizer([" ".join(WORDS)] * 20, 400)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=trained,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def test_the_test_can_tell_the_answers_place():
    for question in questions_about(random.Random(0), [1, 5, 40]):
        (answer,) = question.answers
        assert question.context[answer.start :].startswith(answer.text)


def test_windows_cover_the_paragraph_and_share_the_stride(tokenizer, fresh_seed):
    questions = questions_about(random.Random(fresh_seed), [3, 30, 70])
    encoded = encode_questions(tokenizer, questions, 32, 7, labelled=False)
    assert encoded.features.lengths.max() == 32
    assert not encoded.features.labels
    for number, question in enumerate(questions):
        windows = [window for window in encoded.windows if window.question == number]
        whole = tokenizer(question.context, add_special_tokens=False, return_offsets_mapping=True)[
            "offset_mapping"
        ]
        joined = [*map(tuple, windows[0].offsets)]
        for window in windows[1:]:
            offsets = [*map(tuple, window.offsets)]
            assert joined[-7:] == offsets[:7]
            joined += offsets[7:]
        assert joined == whole


def test_labels_enclose_the_answer_or_point_to_cls(tokenizer, fresh_seed):
    questions = questions_about(random.Random(fresh_seed), [1, 9, 30, 70, 70])
    encoded = encode_questions(tokenizer, questions, 32, 8, labelled=True)
    labels = encoded.features.labels
    found = set()
    for window, start, end in zip(
        encoded.windows, labels["start_positions"], labels["end_positions"], strict=True
    ):
        question = questions[window.question]
        (answer,) = question.answers
        span = answer.start, answer.start + len(answer.text)
        within = window.offsets[0, 0] <= span[0] and span[1] <= window.offsets[-1, 1]
        if not within:
            assert (start, end) == (0, 0)
            continue
        begin, behind = window.offsets[start - window.first, 0], window.offsets[end - window.first, 1]
        assert question.context[begin:behind].strip() == answer.text
        found.add(window.question)
    assert found == set(range(len(questions)))  # 8 tokens are shared, and an answer here has no more


def test_sure_logits_give_the_answers_back(tokenizer, fresh_seed):
    questions = questions_about(random.Random(fresh_seed), [1, 9, 30, 70])
    encoded = encode_questions(tokenizer, questions, 32, 8, labelled=True)
    logits = []
    for name in ("start_positions", "end_positions"):
        sure = np.zeros((len(encoded.windows), 32), np.float32)
        sure[np.arange(len(sure)), encoded.features.labels[name]] = 10
        logits.append(sure)
    answers = answer_questions(questions, encoded.windows, *logits, n_best=5, max_answer_length=20)
    assert [answer.span for answer in answers] == [question.answers[0].text for question in questions]
    assert all(answer.null_odds == -20 for answer in answers)


def test_questions_without_an_answer_are_labelled_with_cls(tokenizer):
    questions = questions_about(random.Random(0), [5, 40], answered=False)
    labels = encode_questions(tokenizer, questions, 32, 8, labelled=True).features.labels
    assert not labels["start_positions"].any()
    assert not labels["end_positions"].any()


def test_a_long_question_is_cut(tokenizer):
    question = Question("q", "tower " * 200, "the old tower", ())
    encoded = encode_questions(tokenizer, [question], 48, 8, labelled=False)
    assert len(encoded.windows) == 1
    ids = encoded.features[0]["input_ids"]
    assert ids.count(tokenizer(" tower", add_special_tokens=False)["input_ids"][0]) == 48 // 3 + 1


def test_the_name_of_a_special_token_is_text(tokenizer):
    question = Question("q", "[MASK] or [SEP]", "[CLS] tower", (Answer("[CLS]", 0),))
    encoded = encode_questions(tokenizer, [question], 64, 8, labelled=True)
    ids = encoded.features[0]["input_ids"]
    assert (ids.count(tokenizer.mask_token_id), ids.count(tokenizer.cls_token_id)) == (0, 1)
    assert encoded.features.labels["start_positions"][0] > 0


@pytest.mark.parametrize(("length", "stride"), [(16, 2), (32, 20)])
def test_sequences_without_room_are_refused(tokenizer, length, stride):
    with pytest.raises(
        InputError, match=r"max_length must be .* at least 32|stride, .* from 0 to 14, not 20"
    ):
        encode_questions(tokenizer, questions_about(random.Random(0), [5]), length, stride, labelled=False)


def test_the_best_spans_are_those_of_a_search_through_all(fresh_seed):
    rng = np.random.default_rng(fresh_seed)
    context = "ab cd  ef gh"
    offsets = np.array([[0, 2], [2, 5], [5, 6], [6, 9], [9, 12]], np.int32)  # the third is a space
    windows = [Window(0, 0, 3, offsets[:4]), Window(0, 0, 3, offsets[1:])]
    starts, ends = rng.normal(size=(2, 2, 9)).astype(np.float32)
    (answers,) = answer_questions([Question("q", "?", context, ())], windows, starts, ends, 4, 2)
    best = {}
    for window, start, end in zip(windows, starts, ends, strict=True):
        for first in range(4):
            for last in range(first, min(first + 2, 4)):
                if [5, 6] in (window.offsets[first].tolist(), window.offsets[last].tolist()):
                    continue
                text = context[window.offsets[first, 0] : window.offsets[last, 1]].strip()
                score = float(start[3 + first]) + float(end[3 + last])
                best[text] = max(score, best.get(text, score))
    expected = sorted(best.items(), key=lambda item: -item[1])[:4]
    assert [span.text for span in answers.spans] == [text for text, _ in expected]
    assert [span.score for span in answers.spans] == pytest.approx([score for _, score in expected])
    nothing = min(float(start[0]) + float(end[0]) for start, end in zip(starts, ends, strict=True))
    assert answers.no_answer.score == pytest.approx(nothing)
    assert answers.null_odds == pytest.approx(nothing - expected[0][1])
    listed = answers.listed(with_no_answer=True)
    scores = np.array([item["start_logit"] + item["end_logit"] for item in listed])
    assert (np.diff(scores) <= 0).all()
    assert [item["probability"] for item in listed] == pytest.approx(np.exp(scores) / np.exp(scores).sum())
    assert sorted(item["text"] for item in listed) == sorted(["", *(span.text for span in answers.spans)])
