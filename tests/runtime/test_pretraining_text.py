"""Text for pretraining: what is read, what is refused, and what memory it takes."""

import subprocess
import sys

import pytest

from graphir import InputError
from runtime.pretraining import text_source
from runtime.pretraining.text_source import open_text
from runtime.pretraining.tokenised_text import tokenise_text
from runtime.tokenizer import encode_sequences, train_tokenizer


def texts(tmp_path, **contents):
    for name, content in contents.items():
        path = tmp_path / f"{name}.txt"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return tmp_path


def test_lines_lose_white_space_and_blank_ones_end_a_paragraph(tmp_path):
    folder = texts(tmp_path, b="\ufeffone  two\r\nthree\n \n\tfour", a="first\n")
    assert list(open_text(folder).lines()) == ["first", "", "one two", "three", "", "four", ""]


def test_a_folder_is_read_with_its_subfolders_and_empty_files_left_out(tmp_path):
    (tmp_path / "z").mkdir()
    texts(tmp_path / "z", deep="deep")
    texts(tmp_path, empty="", a="a")
    (tmp_path / "notes.md").write_text("no text of the corpus")
    assert [line for line in open_text(tmp_path).lines() if line] == ["a", "deep"]


def test_tokens_are_those_of_whole_paragraphs(tmp_path, corpus_file):
    """The reference encodes paragraphs, each in one piece; here lines are encoded and stand in a file."""
    words = corpus_file.read_text().split()
    paragraphs = [" ".join(words[start : start + 50]) for start in range(0, 2_000, 50)]
    broken = "\n\n\n".join(paragraph.replace(". ", ".\n") for paragraph in paragraphs)
    folder = texts(tmp_path, text=f"{broken}\n\n[MASK] and [SEP] are text here")
    tokenizer = train_tokenizer(words, 400)
    found = tokenise_text(open_text(folder), tmp_path / "tokens", tokenizer)
    expected = encode_sequences(tokenizer, [*paragraphs, "[MASK] and [SEP] are text here"], 64)
    stream = expected.ids[:, 1:][expected.key_mask[:, 1:]]
    assert found.file.path.stat().st_size == 2 * found.file.tokens
    assert memoryview(found.file.path.read_bytes()).cast("H").tolist() == stream.tolist()


def test_tokens_are_made_once_and_made_again_for_another_text(tmp_path, corpus_file, monkeypatch):
    path = tmp_path / "text.txt"
    path.write_bytes(corpus_file.read_bytes())
    first = tokenise_text(open_text(path), tmp_path / "tokens", 300)
    said = []
    again = tokenise_text(open_text(path), tmp_path / "tokens", 300, said.append)
    assert again.file == first.file
    assert not said
    path.write_bytes(path.read_bytes().replace(b"kernel", b"kettle", 1))
    other = tokenise_text(open_text(path), tmp_path / "tokens", 300, said.append)
    assert other.file.path != first.file.path
    assert len(said) == 2


def test_a_token_file_that_was_cut_is_made_again(tmp_path, corpus_file):
    first = tokenise_text(open_text(corpus_file), tmp_path, 300)
    whole = first.file.path.read_bytes()
    first.file.path.write_bytes(whole[:-2])
    assert tokenise_text(open_text(corpus_file), tmp_path, 300).file == first.file
    assert first.file.path.read_bytes() == whole


MALFORMED = {
    "empty": (b"", "is empty"),
    "white space": (b" \n\n\t\n", "white space alone"),
    "not UTF-8": (b"fine\nalso fine\nw\xf6rter\n", r"text\.txt, line 3: it is not UTF-8 \(byte 2 is 0xf6\)"),
    "binary": (b"fine\n\0\1\2\n", r"text\.txt, line 2: it holds a NUL byte"),
    "long line": (b"fine\n" + b"word " * 500 + b"\n", r"text\.txt, line 2: it is longer than 2,000 bytes"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_text_is_refused_with_file_and_line_and_nothing_is_left(tmp_path, monkeypatch, name):
    monkeypatch.setattr(text_source, "MAX_LINE_BYTES", 2_000)
    content, message = MALFORMED[name]
    texts(tmp_path, text=content)
    with pytest.raises(InputError, match=message):
        tokenise_text(open_text(tmp_path / "text.txt"), tmp_path / "tokens", train_tokenizer(["a"], 261))
    assert not list(tmp_path.glob("tokens/*"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.txt", "does not exist"),
        ("folder", r"holds no \.txt file"),
        ("/dev/null", "no plain file"),
        ("hf:", "has no name"),
        ("hf:x?splits=train", "unknown option 'splits'"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path, name, message):
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=message):
        open_text(name if name.startswith("hf:") else tmp_path / name)


MEMORY = """
import resource, sys
from pathlib import Path
from runtime.pretraining import text_source, tokenised_text
from runtime.tokenizer import train_tokenizer

folder = Path(sys.argv[1])
line = "the quick brown fox jumps over the lazy dog and reads its inputs " * 8
def peak(megabytes):
    path = folder / f"{megabytes}.txt"
    with path.open("w") as file:
        for number in range(megabytes * 1_000_000 // len(line)):
            file.write(f"{number % 97} {line}\\n" + "\\n" * (number % 5 == 0))
    tokenizer = train_tokenizer([line], 300)
    found = tokenised_text.tokenise_text(text_source.open_text(path), folder / "tokens", tokenizer)
    assert found.file.tokens > megabytes * 100_000
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
few, many = peak(2), peak(10)
print(many - few)
path = folder / "one line.txt"
with path.open("wb") as file:
    file.truncate(100_000_000)
try:
    list(text_source.open_text(path).lines())
except ValueError as error:
    assert "line 1" in str(error), error
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000 - many)
"""


def test_memory_does_not_grow_with_the_text_and_a_huge_line_is_not_read(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path)], capture_output=True, text=True, check=True
    )
    grown, for_a_line = map(float, done.stdout.split())
    # 8 MB more of text, whose tokens as numbers of Python would take many times that. Allocators keep a few MB.
    assert grown < 6
    # Of the line of 100 MB at most 4 MB are read.
    assert for_a_line < 12


@pytest.mark.parametrize("builder", ["text", "json"])
def test_a_data_set_is_read_row_by_row(tmp_path, transformers, builder):
    pytest.importorskip("datasets")
    if builder == "text":
        path, query = tmp_path / "rows.txt", ""
        path.write_text("one  row\nanother\n")
    else:
        path, query = tmp_path / "rows.jsonl", "&column=body"
        path.write_text('{"body": "one  row", "n": 1}\n{"body": "another", "n": 2}\n')
    source = open_text(f"hf:{builder}?data_files={path}{query}")
    assert list(source.lines()) == ["one row", "", "another", ""]
    found = tokenise_text(source, tmp_path / "tokens", 261)
    assert found.file.tokens == sum(len(f" {line}") for line in ("one row", "another")) + 2  # a token a byte
    before = source.identity
    path.write_text(path.read_text().replace("another", "changed"))
    assert source.identity != before
    with pytest.raises(InputError, match="row 1: the column 'title' holds None, not text; its columns are"):
        list(open_text(f"hf:{builder}?data_files={path}&column=title").lines())


def test_a_data_set_that_is_not_there_is_an_error_for_people(tmp_path, transformers, monkeypatch):
    pytest.importorskip("datasets")
    with pytest.raises(InputError, match="the data set text cannot be read"):
        list(open_text(f"hf:text?data_files={tmp_path / 'none.txt'}").lines())
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match=r"needs the package datasets: pip install 'opnas\[hub\]'"):
        list(open_text("hf:text").lines())
