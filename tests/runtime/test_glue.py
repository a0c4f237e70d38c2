"""GLUE's files, metrics and submissions."""

import math

import numpy as np
import pytest

from graphir import InputError
from runtime.tasks.glue import GLUE, read_glue
from runtime.tasks.glue_scores import METRICS, predicted, submission
from runtime.tasks.task import open_task

# Headers as the benchmark's files have them: train and dev, then test.
HEADERS = {
    "cola": (None, "index\tsentence"),
    "sst2": ("sentence\tlabel", "index\tsentence"),
    "mrpc": (
        "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String",
        "index\t#1 ID\t#2 ID\t#1 String\t#2 String",
    ),
    "stsb": (
        "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore",
        "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2",
    ),
    "qqp": ("id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate", "id\tquestion1\tquestion2"),
    "mnli": (
        "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse"
        "\tsentence2_parse\tsentence1\tsentence2\tlabel1\tgold_label",
        "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse"
        "\tsentence2_parse\tsentence1\tsentence2",
    ),
    "qnli": ("index\tquestion\tsentence\tlabel", "index\tquestion\tsentence"),
    "rte": ("index\tsentence1\tsentence2\tlabel", "index\tsentence1\tsentence2"),
    "wnli": ("index\tsentence1\tsentence2\tlabel", "index\tsentence1\tsentence2"),
}


def write_task(folder, name, rows=4):
    """A folder of the task whose sentences and labels are known: see `test_every_task_is_read`."""
    task = GLUE[name]
    folder.mkdir(exist_ok=True)
    header, test_header = HEADERS[name]
    columns = header.split("\t") if header else ["source", "label", "mark", "sentence"]

    def line(names, number):
        values = {text: f'{text} "{number}' for text in task.texts}
        label = task.labels[number % len(task.labels)] if task.labels else f"{number / 2}"
        values |= {task.label: label, task.index: str(10 * number)}
        return "\t".join(values.get(column, f"{column} of {number}") for column in names)

    def write(file, first, names):
        lines = [*([first] if first else []), *(line(names, number) for number in range(rows))]
        (folder / file).write_text("\n".join(lines) + "\n", encoding="utf-8")

    for file in ("train.tsv", *task.dev):
        write(file, header, columns)
    for file in task.tests:
        write(file, test_header, test_header.split("\t"))
    return folder


@pytest.mark.parametrize("name", GLUE)
def test_every_task_is_read(tmp_path, name):
    task = GLUE[name]
    data = read_glue(task, write_task(tmp_path / "data", name))
    expected = [0, 0.5, 1, 1.5] if not task.labels else [n % len(task.labels) for n in range(4)]
    for examples in (data.train, *data.dev.values()):
        assert examples.labels.tolist() == expected
        assert [texts[3] for texts in examples.texts] == [f'{column} "3' for column in task.texts]
    assert list(data.dev) == (["_matched", "_mismatched"] if name == "mnli" else [""])
    for examples in data.tests.values():
        assert examples.indices == ["0", "10", "20", "30"]
        assert [texts[1] for texts in examples.texts] == [f'{column} "1' for column in task.texts]


def test_the_tasks_are_those_of_the_benchmark():
    # Table 1 of Wang et al. 2019, and the names of the files that its site takes.
    metrics = {name: task.metrics for name, task in GLUE.items()}
    assert metrics == {
        "cola": ("matthews",),
        "sst2": ("accuracy",),
        "mrpc": ("accuracy", "f1"),
        "stsb": ("pearson", "spearman"),
        "qqp": ("accuracy", "f1"),
        "mnli": ("accuracy",),
        "qnli": ("accuracy",),
        "rte": ("accuracy",),
        "wnli": ("accuracy",),
    }
    files = sorted(file for task in GLUE.values() for file in task.tests.values())
    expected = "AX CoLA MNLI-m MNLI-mm MRPC QNLI QQP RTE SST-2 STS-B WNLI"
    assert files == [f"{name}.tsv" for name in expected.split()]


def test_names_of_tasks_are_taken_as_people_write_them(tmp_path):
    write_task(tmp_path / "data", "stsb")
    assert open_task("STS-B", tmp_path / "data").title == "STS-B"
    with pytest.raises(InputError, match=r"unknown task 'mprc'.*mrpc"):
        open_task("mprc", tmp_path / "data")


def test_files_to_predict_may_be_missing_and_others_may_not(tmp_path):
    folder = write_task(tmp_path / "data", "mnli")
    (folder / "test_matched.tsv").unlink()
    assert list(read_glue(GLUE["mnli"], folder).tests) == ["MNLI-mm.tsv", "AX.tsv"]
    (folder / "dev_mismatched.tsv").unlink()
    with pytest.raises(InputError, match=r"has no dev_mismatched\.tsv.*train\.tsv, dev_matched\.tsv"):
        read_glue(GLUE["mnli"], folder)


def test_rows_to_predict_without_numbers_are_counted(tmp_path):
    folder = write_task(tmp_path / "data", "mrpc")  # its file for tests came with labels and without an index
    (folder / "test.tsv").write_text((folder / "train.tsv").read_text())
    assert read_glue(GLUE["mrpc"], folder).tests["MRPC.tsv"].indices == ["0", "1", "2", "3"]


MALFORMED = [
    ("mrpc", "Quality\t#1 ID\t#2 ID\t#1 String\n", r"line 1: the column #2 String is missing"),
    (
        "mrpc",
        "Quality,#1 ID,#2 ID,#1 String,#2 String\n",
        r"line 1: the column #1 String, #2 String, Quality is",
    ),
    ("sst2", "sentence\tlabel\na b\t1\nc d\t2\n", r"line 3: the label is '2'; one of 0, 1 is expected"),
    (
        "rte",
        "index\tsentence1\tsentence2\tlabel\n0\ta\tb\tneutral\n",
        r"line 2: .*entailment, not_entailment",
    ),
    (
        "sst2",
        "sentence\tlabel\na b\t1\nc d\n",
        r"line 3: it has 1 fields .* 2 are expected: 'sentence', 'label'",
    ),
    ("cola", "x\t1\t\ta b\nx\t1\ta b\n", r"line 2: it has 3 fields .* 4 are expected"),
    (
        "stsb",
        HEADERS["stsb"][0] + "\n" + "\t".join("012345678") + "\t5.1\n",
        r"line 2: .*'5.1'; a number from 0 to 5",
    ),
    ("stsb", HEADERS["stsb"][0] + "\n" + "\t".join("012345678") + "\tnan\n", r"line 2: .*'nan'; a number"),
    ("sst2", "", r"train.tsv: it has no rows"),
    ("sst2", "sentence\tlabel\n", r"train.tsv: it has no rows; expected are rows with sentence, label"),
    ("qqp", HEADERS["qqp"][0] + "\n1\t2\t3\ta\tb\t1\n1\t2\t3\ta\n", r"line 3: it has 4 fields"),
]


@pytest.mark.parametrize(("name", "content", "problem"), MALFORMED)
def test_malformed_files_are_refused_with_file_and_line(tmp_path, name, content, problem):
    folder = write_task(tmp_path / "data", name)
    (folder / "train.tsv").write_text(content)
    with pytest.raises(InputError, match=problem) as error:
        read_glue(GLUE[name], folder)
    assert str(folder / "train.tsv") in str(error.value)


def test_other_encodings_and_endless_lines_are_refused(tmp_path):
    folder = write_task(tmp_path / "data", "sst2")
    (folder / "dev.tsv").write_bytes(b"sentence\tlabel\ncaf\xe9\t1\n")
    with pytest.raises(InputError, match=r"dev\.tsv, line 2: byte 4 .*UTF-8"):
        read_glue(GLUE["sst2"], folder)
    with (folder / "dev.tsv").open("wb") as file:
        file.write(b"sentence\tlabel\nx")
        file.truncate(100_000_000)
    with pytest.raises(InputError, match=r"dev\.tsv, line 2: it is longer than 1,000,000 bytes"):
        read_glue(GLUE["sst2"], folder)


def test_a_few_rows_of_qqp_may_be_torn(tmp_path):
    # The benchmark's own file has about one such row in ten thousand: line breaks within questions.
    folder = write_task(tmp_path / "data", "qqp", rows=1_000)
    with (folder / "train.tsv").open("a") as file:
        file.write("7\t8\t9\tonly half of it\n")
    assert len(read_glue(GLUE["qqp"], folder).train) == 1_000
    with (folder / "train.tsv").open("a") as file:
        file.write("7\t8\t9\tonly half of it\n")
    with pytest.raises(InputError, match="line 1,002: it has 4 fields"):
        read_glue(GLUE["qqp"], folder)


def test_metrics_are_those_of_their_definitions():
    predictions, labels = np.array([1, 1, 1, 0, 0, 0]), np.array([1, 1, 0, 0, 1, 0])
    # By hand: 2 true and 1 false positives, 2 true and 1 false negatives.
    assert METRICS["accuracy"](predictions, labels) == pytest.approx(4 / 6)
    assert METRICS["f1"](predictions, labels) == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    assert METRICS["matthews"](predictions, labels) == pytest.approx(
        (2 * 2 - 1 * 1) / math.sqrt(3 * 3 * 3 * 3)
    )
    scores, golds = np.array([1.0, 2.0, 4.0]), np.array([1.0, 3.0, 2.0])
    # Ranks 1 2 3 and 1 3 2: 1 - 6 (0 + 1 + 1) / (3 (9 - 1)).
    assert METRICS["spearman"](scores, golds) == pytest.approx(0.5)
    deviations = np.array([-4, -1, 5]) / 3, np.array([-1.0, 1.0, 0.0])
    expected = (deviations[0] @ deviations[1]) / math.sqrt((deviations[0] @ deviations[0]) * 2)
    assert METRICS["pearson"](scores, golds) == pytest.approx(expected)


@pytest.mark.parametrize("metric", ["matthews", "pearson", "spearman", "f1"])
def test_a_constant_prediction_has_a_value(metric):
    assert METRICS[metric](np.zeros(4), np.array([0, 1, 1, 0])) == 0.0


def test_predictions_have_the_form_of_the_benchmark():
    logits = np.array([[0.0, 1.0, 2.0], [3.0, 1.0, 2.0]], np.float32)
    assert submission(GLUE["mnli"], ["0", "5"], predicted(GLUE["mnli"], logits)) == (
        "index\tprediction\n0\tneutral\n5\tcontradiction\n"
    )
    logits = np.array([[0.0, 1.0], [3.0, 1.0]], np.float32)
    assert (
        submission(GLUE["qqp"], ["0", "1"], predicted(GLUE["qqp"], logits))
        == "index\tprediction\n0\t1\n1\t0\n"
    )
    scores = np.array([[-0.5], [2.25], [7.0]], np.float32)
    assert submission(GLUE["stsb"], ["0", "1", "2"], predicted(GLUE["stsb"], scores)) == (
        "index\tprediction\n0\t0.0000\n1\t2.2500\n2\t5.0000\n"
    )
