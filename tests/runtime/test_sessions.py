"""When and where a run was carried on, and what becomes of a report that cannot be written."""

import json
import sys
from datetime import datetime
from importlib.metadata import version

import pytest

from runtime.search import resume, search
from runtime.sessions import MOST_SESSIONS, SESSIONS, read_sessions, record_session


def test_each_session_of_a_search_is_recorded_with_its_machine_and_versions(
    tmp_path, corpus_file, tiny_config
):
    run = search(tmp_path / "run", corpus=corpus_file, config=tiny_config).run
    resume(run.folder)
    first, second = read_sessions(run.folder)
    assert datetime.fromisoformat(first["begun"]) <= datetime.fromisoformat(second["begun"])
    assert second["machine"]["device"] == "cpu"
    assert second["versions"]["python"] == sys.version.split()[0]
    assert second["versions"]["torch"] == version("torch")


def test_the_first_session_and_the_newest_are_kept(tmp_path):
    for number in range(MOST_SESSIONS + 3):
        record_session(tmp_path, f"device {number}")
    devices = [entry["machine"]["device"] for entry in read_sessions(tmp_path)]
    assert len(devices) == MOST_SESSIONS
    assert devices[0] == "device 0"
    assert devices[-1] == f"device {MOST_SESSIONS + 2}"


@pytest.mark.parametrize(
    "text", ["", "{", "[1, {}]", '{"begun": 1}', '[{"begun": 1, "machine": {}, "versions": {}}]']
)
def test_what_is_no_record_is_left_out(tmp_path, text):
    assert read_sessions(tmp_path) == []
    (tmp_path / SESSIONS).write_text(text)
    assert read_sessions(tmp_path) == []
    record_session(tmp_path, "cpu")
    assert len(json.loads((tmp_path / SESSIONS).read_text())) == 1


def test_a_search_whose_report_cannot_be_written_ends_well_with_a_warning(
    tmp_path, corpus_file, tiny_config, monkeypatch
):
    def full(folder):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("runtime.pipeline.report", full)
    with pytest.warns(UserWarning, match="the report could not be written"):
        outcome = search(tmp_path / "run", corpus=corpus_file, config=tiny_config)
    assert outcome.winner_metrics
    assert (outcome.run.best_path / "model.safetensors").is_file()
    assert not (outcome.run.folder / "report.html").exists()
