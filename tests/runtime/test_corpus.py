"""The corpus: what is read, what is refused, and what never leaks."""

import random

import pytest

from runtime.corpus import MAX_CORPUS_BYTES, MIN_CORPUS_CHARS, CorpusError, load_corpus, split_corpus

WORDS = ("river", "stone", "quick", "lantern", "green", "whisper", "copper", "orbit")


def random_paragraphs(seed: int, count: int) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(4, 60))) for _ in range(count)]


@pytest.fixture(scope="module")
def documentation():
    return load_corpus()


def test_default_corpus_is_about_two_megabytes_of_english(documentation):
    assert 1_000_000 < documentation.size < 10_000_000
    words = set(" ".join(documentation.train).lower().split())
    assert {"the", "function", "returns", "iterator", "is"} <= words


def test_default_training_text_contains_no_held_out_paragraph(documentation):
    training = "\n".join(documentation.train).casefold()
    leaked = [paragraph for paragraph in documentation.held_out if paragraph.casefold() in training]
    assert leaked == []
    assert len(documentation.held_out) > 300


@pytest.mark.parametrize("seed", range(5))
def test_repeated_paragraphs_never_stand_on_both_sides(seed, tmp_path):
    rng = random.Random(seed)
    distinct = random_paragraphs(seed, 150)
    # Repeated as they are, in capitals, with other line breaks, and inside a longer paragraph.
    disguises = [str, str.upper, lambda p: p.replace(" ", "\n  "), lambda p: f"As said before: {p} Indeed."]
    texts = distinct + [rng.choice(disguises)(rng.choice(distinct)) for _ in range(200)]
    rng.shuffle(texts)
    path = tmp_path / "corpus.txt"
    path.write_text("\n\n".join(texts), encoding="utf-8")

    corpus = load_corpus(path)
    training = "\n".join(corpus.train).casefold()
    assert corpus.held_out, f"seed {seed}"
    for paragraph in corpus.held_out:
        assert paragraph.casefold() not in training, f"seed {seed}"
    assert len({p.casefold() for p in corpus.train + corpus.held_out}) == len(corpus.train + corpus.held_out)


def test_both_parts_together_are_the_whole_text(tmp_path):
    texts = random_paragraphs(1, 200)
    path = tmp_path / "corpus.txt"
    path.write_text("\n\n".join(texts), encoding="utf-8")
    corpus = load_corpus(path)
    assert sorted(corpus.train + corpus.held_out) == sorted(set(texts))
    assert corpus.size == path.stat().st_size


def test_the_same_file_is_split_the_same_way_and_another_is_not(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        (tmp_path / name).write_text("\n\n".join(random_paragraphs(seed, 200)), encoding="utf-8")
    a, b, c = (load_corpus(tmp_path / name) for name in "abc")
    assert (a.train, a.held_out, a.digest) == (b.train, b.held_out, b.digest)
    assert a.digest != c.digest


def test_windows_line_ends_make_paragraphs_too(tmp_path):
    texts = random_paragraphs(3, 200)
    (tmp_path / "unix").write_bytes("\n\n".join(texts).encode())
    (tmp_path / "windows").write_bytes("\r\n\r\n".join(texts).encode())
    assert load_corpus(tmp_path / "unix").digest == load_corpus(tmp_path / "windows").digest


@pytest.mark.parametrize("separator", [" ", "\n"])
def test_text_without_blank_lines_is_cut_and_held_out_in_part(separator, tmp_path):
    path = tmp_path / "one.txt"
    path.write_text(separator.join(random_paragraphs(4, 300)), encoding="utf-8")
    corpus = load_corpus(path)
    assert 0 < len(corpus.held_out) < len(corpus.train)


def test_text_without_spaces_is_read(tmp_path):
    rng = random.Random(5)
    path = tmp_path / "chinese.txt"
    path.write_text("".join(chr(rng.randint(0x4E00, 0x9000)) for _ in range(30_000)), encoding="utf-8")
    corpus = load_corpus(path)
    assert len(corpus.held_out) >= 1
    assert max(map(len, corpus.train)) <= 1_000


TEXT = "\n\n".join(random_paragraphs(6, 200))

REFUSED = {
    "missing": (None, "does not exist"),
    "empty": (b"", "is empty"),
    "white space": (b" \n\n\t\n", "is empty"),
    "binary": (TEXT.encode() + b"\x00\x01", "NUL bytes"),
    "latin-1": (TEXT.encode() + "é".encode("latin-1"), "not UTF-8"),
    "small": (b"A short story.\n\nThe end.\n", f"at least {MIN_CORPUS_CHARS:,}"),
    "repetition": (b"the same again and again\n\n" * 10_000, f"at least {MIN_CORPUS_CHARS:,}"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_bad_files_are_refused_with_the_reason(what, tmp_path):
    content, reason = REFUSED[what]
    path = tmp_path / "corpus.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CorpusError, match=reason) as refusal:
        load_corpus(path)
    assert "corpus.txt" in str(refusal.value)


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(CorpusError, match="is a folder"):
        load_corpus(tmp_path)


def test_a_file_above_the_limit_is_refused(tmp_path):
    path = tmp_path / "large.txt"
    with path.open("wb") as file:
        file.truncate(MAX_CORPUS_BYTES + 1)  # a sparse file: no disk is filled
    with pytest.raises(CorpusError, match="larger than 100,000,000 bytes"):
        load_corpus(path)


def test_only_short_paragraphs_leave_nothing_to_hold_out():
    texts = [f"line number {number}" for number in range(2_000)]
    with pytest.raises(CorpusError, match="nothing can be held out"):
        split_corpus("lines", texts, 0)
