"""A report that follows a running search: for this machine alone, new when there is more to see."""

import http.client
import threading
from contextlib import contextmanager

import pytest

from evolution import StudyError
from graphir import InputError
from runtime.report.server import HOST, make_server
from runtime.run import RunError
from tests.runtime.html_page import Page
from tests.runtime.synthetic_run import SPACE, synthetic_candidates, synthetic_run


@contextmanager
def served(folder):
    """The port of a server for a run."""
    with make_server(folder, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def get(port, path="/", host=None):
    """Status, headers and body."""
    connection = http.client.HTTPConnection(HOST, port, timeout=60)
    connection.request("GET", path, headers={} if host is None else {"Host": host})
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, answer.headers, body


def test_the_page_is_new_when_a_candidate_was_committed_and_only_then(tmp_path):
    candidates = synthetic_candidates(4)
    run = synthetic_run(tmp_path / "run", candidates[:3])
    with served(run.folder) as port:
        status, headers, first = get(port)
        assert status == 200
        assert headers["Content-Type"] == "text/html; charset=utf-8"
        assert get(port)[2] == first  # the moment of writing stands in it: it was not made again
        version = get(port, "/version")[2]
        page = Page(first)
        assert page.all("html")[0].attributes["data-version"] == version
        assert len(page.rows("ranking")) == 3
        with run.open_study() as study:
            study.add(candidates[3])
        assert get(port, "/version")[2] != version
        assert len(Page(get(port)[2]).rows("ranking")) == 4
    assert not (run.folder / "report.html").exists()


def test_the_page_may_ask_its_own_server_and_nobody_else(tmp_path):
    run = synthetic_run(tmp_path / "run", synthetic_candidates(2))
    with served(run.folder) as port:
        page = Page(get(port)[2])
        policy = [e for e in page.all("meta") if e.attributes.get("http-equiv") == "Content-Security-Policy"]
        assert "connect-src 'self'" in policy[0].attributes["content"]
        assert get(port, host=f"localhost:{port}")[0] == 200
        assert get(port, host="evil.example")[0] == 403
        assert get(port, host=f"evil.example:{port}")[0] == 403
        assert get(port, "/../config.json")[0] == 404


def test_a_study_that_cannot_be_read_is_said_and_the_server_goes_on(tmp_path):
    run = synthetic_run(tmp_path / "run", synthetic_candidates(2))
    whole = run.study_path.read_bytes()
    with served(run.folder) as port:
        run.study_path.write_bytes(b"broken")
        status, _, body = get(port)
        assert status == 500
        assert "study.db" in body
        run.study_path.write_bytes(whole)
        assert get(port)[0] == 200


def test_what_cannot_be_served_is_said_at_once(tmp_path):
    with pytest.raises(RunError, match=r"config\.json"):
        make_server(tmp_path)
    run = synthetic_run(tmp_path / "run", [], space=SPACE)
    with make_server(run.folder, 0) as server, pytest.raises(InputError, match="choose another --port"):
        make_server(run.folder, server.server_address[1])
    with pytest.raises(InputError, match="port must be"):
        make_server(run.folder, 70_000)
    run.study_path.write_bytes(b"broken")
    with pytest.raises(StudyError):
        make_server(run.folder, 0)
