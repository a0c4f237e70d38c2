"""The folder for results that save time: by the rules of whoever names it, and never needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from codegen.cache import cache_folder, read_cached, write_cached


@pytest.fixture(autouse=True)
def unset(monkeypatch):
    monkeypatch.delenv("OPNAS_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)


def test_the_users_own_choice_comes_first(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "shared"))
    assert cache_folder("tiles") == tmp_path / "shared" / "opnas" / "tiles"
    monkeypatch.setenv("OPNAS_CACHE", str(tmp_path / "own"))
    assert cache_folder("tiles") == tmp_path / "own" / "tiles"


@pytest.mark.parametrize("value", ["", "relative/path", "."])
def test_a_cache_home_that_is_not_absolute_is_ignored(value, monkeypatch, tmp_path):
    # So says the XDG base directory specification.
    monkeypatch.setenv("XDG_CACHE_HOME", value)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert cache_folder("tiles") == tmp_path / ".cache" / "opnas" / "tiles"


def test_without_a_home_nothing_is_kept(monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    assert cache_folder("tiles") is None
    assert read_cached(None) is None
    write_cached(None, "text")


def test_what_is_written_is_read_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "new" / "folder" / "a.json"
    assert read_cached(path) is None
    write_cached(path, "one")
    write_cached(path, "two")
    assert read_cached(path) == "two"
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]


def test_a_place_that_cannot_be_written_is_a_warning(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.warns(UserWarning, match="nothing is kept in .* for the next time: Not a directory"):
        write_cached(tmp_path / "file" / "tiles" / "a.json", "text")
    (tmp_path / "taken.json").mkdir()
    with pytest.warns(UserWarning, match="nothing is kept"):
        write_cached(tmp_path / "taken.json", "text")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "taken.json"]
