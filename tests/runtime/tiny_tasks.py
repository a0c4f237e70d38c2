"""Tasks in the form of the benchmarks that a model of width 16 learns within seconds."""

from __future__ import annotations

import json
import random

PLAIN = ["film", "plot", "actor", "scene", "music", "ending", "camera", "story", "voice", "light"]
MOODS = {"0": ("dull", "poor", "flat"), "1": ("great", "fine", "warm")}
COLOURS = ["red", "blue", "green", "white", "black", "yellow"]
PLACES = ["house", "river", "tower", "bridge", "garden", "street"]
WORDS = [*PLAIN, *MOODS["0"], *MOODS["1"], *COLOURS, *PLACES, "which", "colour"]


def sentence(rng, label):
    words = [rng.choice(PLAIN) for _ in range(rng.randint(2, 6))]
    words.insert(rng.randrange(len(words) + 1), rng.choice(MOODS[label]))
    return " ".join(words)


def write_reviews(folder, train=240, dev=60, test=8):
    """SST-2 in small: one word of each sentence tells its label, and both labels are as frequent."""
    rng = random.Random(0)
    folder.mkdir()
    for name, count in (("train", train), ("dev", dev)):
        rows = [f"{sentence(rng, label)}\t{label}" for label in ("0", "1") for _ in range(count // 2)]
        rng.shuffle(rows)
        (folder / f"{name}.tsv").write_text("\n".join(["sentence\tlabel", *rows]) + "\n")
    labels = ["0", "1"] * (test // 2)
    rows = [f"{number}\t{sentence(rng, label)}" for number, label in enumerate(labels)]
    (folder / "test.tsv").write_text("\n".join(["index\tsentence", *rows]) + "\n")
    return folder


def write_questions(folder, version="v2.0", train=160, dev=40):
    """SQuAD in small: the answer is the only colour of the paragraph; in 2.0 every fourth has none."""
    rng = random.Random(0)
    folder.mkdir()
    for name, count in (("train", train), ("dev", dev)):
        entries = []
        for number in range(count):
            words = [rng.choice(PLACES) for _ in range(rng.randint(3, 8))]
            question = {"id": f"{name}{number}", "question": "which colour", "answers": []}
            if version == "v2.0":
                question["is_impossible"] = number % 4 == 0
            if version == "v1.1" or number % 4:
                place = rng.randrange(len(words) + 1)
                words.insert(place, rng.choice(COLOURS))
                start = sum(len(word) + 1 for word in words[:place])
                question["answers"] = [{"text": words[place], "answer_start": start}]
            entries.append({"context": " ".join(words), "qas": [question]})
        data = {"version": version, "data": [{"title": "colours", "paragraphs": entries}]}
        (folder / f"{name}-{version}.json").write_text(json.dumps(data))
    return folder
