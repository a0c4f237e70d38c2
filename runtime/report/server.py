"""A report that follows a running search: a small server for this machine alone."""

from __future__ import annotations

import threading
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from graphir import InputError, OpnasError
from graphir.checks import check_whole
from runtime.report.data import state
from runtime.report.writing import render_run

HOST = "127.0.0.1"
DEFAULT_PORT = 8765


class Pages:
    """The newest page of a run, made again when the run has changed and somebody asks."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._lock = threading.Lock()
        self._state, self._page = "", b""

    def page(self) -> bytes:
        """The page as it stands. Raises as `runtime.report.report` does."""
        with self._lock:  # two readers do not make it twice
            now = state(self.folder)
            if not self._page or now != self._state:
                self._page = render_run(self.folder, version=now).encode()
                self._state = now
            return self._page

    def version(self) -> bytes:
        """A text that differs from the one before where the page would."""
        return state(self.folder).encode()


def make_server(folder: str | Path, port: int = DEFAULT_PORT) -> ThreadingHTTPServer:
    """A server for the report of ``folder`` on this machine; nobody else can reach it. Call its ``serve_forever``.

    Args:
        folder: of the run.
        port: 0 for any that is free.

    Raises:
        OpnasError: where the folder is not that of a search, or the port is taken.
    """
    check_whole(port, "port", 0, 65_535)
    pages = Pages(folder)
    pages.page()  # a wrong folder is told now, not in a browser

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not self._asked_for_this_machine():
                self._answer(HTTPStatus.FORBIDDEN, b"ask for 127.0.0.1 or localhost\n", "text/plain")
                return
            made = {"/": (pages.page, "text/html"), "/version": (pages.version, "text/plain")}.get(self.path)
            if made is None:
                self._answer(HTTPStatus.NOT_FOUND, b"there is nothing here: ask for /\n", "text/plain")
                return
            make, kind = made
            try:
                body = make()
            except (OpnasError, OSError) as error:
                self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, f"{error}\n".encode(), "text/plain")
                return
            with suppress(ConnectionError):  # the reader has gone
                self._answer(HTTPStatus.OK, body, kind)

        def _asked_for_this_machine(self) -> bool:
            """A page of the web may have its name point here; then the host that it asks for is its own."""
            host = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
            return host in (HOST, "localhost")

        def _answer(self, status: HTTPStatus, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            """Nothing: a page that follows asks every few seconds."""

    try:
        return ThreadingHTTPServer((HOST, port), Handler)
    except OSError as error:
        raise InputError(f"port {port} cannot be used ({error.strerror}): choose another --port") from error
