"""Lines of files that may come from anywhere."""

import tracemalloc

import pytest

from graphir import InputError
from runtime.text_lines import read_lines


def lines_of(path, content, longest=100):
    path.write_bytes(content)
    return list(read_lines(path, longest))


def test_lines_come_with_their_numbers_and_without_their_ends(tmp_path):
    found = lines_of(tmp_path / "text", b"one\r\n\ntwo \rand\xe2\x80\xa8three\nfour")
    assert found == [(1, "one"), (2, ""), (3, "two \rand\u2028three"), (4, "four")]


def test_a_byte_order_mark_is_no_text(tmp_path):
    assert lines_of(tmp_path / "text", "\ufeffÄ\n\ufeffb\n".encode()) == [(1, "Ä"), (2, "\ufeffb")]
    assert lines_of(tmp_path / "text", "\ufeffabcdef\n".encode(), 6) == [(1, "abcdef")]


def test_an_empty_file_has_no_lines(tmp_path):
    assert lines_of(tmp_path / "text", b"") == []


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_a_line_may_be_as_long_as_is_said_and_no_longer(tmp_path, end):
    assert lines_of(tmp_path / "text", b"ab\n" + b"x" * 10 + end, 10)[1] == (2, "x" * 10)
    with pytest.raises(InputError, match=r"text, line 2: it is longer than 10 bytes"):
        lines_of(tmp_path / "text", b"ab\n" + b"x" * 11 + end, 10)


def test_lengths_are_bytes(tmp_path):
    assert lines_of(tmp_path / "text", "ääää\n".encode(), 8) == [(1, "ääää")]
    with pytest.raises(InputError, match="longer than 7 bytes"):
        lines_of(tmp_path / "text", "ääää\n".encode(), 7)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"fine\ncaf\xe9 au lait\n", "line 2: byte 4 of it is not UTF-8"),
        ("fine".encode("utf-16"), "line 1: it holds NUL bytes"),
        (b"fine\na\x00b\n", "line 2: it holds NUL bytes"),
    ],
)
def test_what_is_no_text_is_refused_with_file_and_line(tmp_path, content, problem):
    with pytest.raises(InputError, match=problem) as error:
        lines_of(tmp_path / "text", content)
    assert str(tmp_path / "text") in str(error.value)


def test_a_line_of_a_hundred_megabytes_is_not_read_whole(tmp_path):
    path = tmp_path / "text"
    with path.open("wb") as file:
        file.write(b"fine\nx")
        file.truncate(100_000_000)  # the rest is a hole that takes no room
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="line 2: it is longer than 1,000 bytes"):
            list(read_lines(path, 1_000))
        # The buffer of a file is 128 KB at most.
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
