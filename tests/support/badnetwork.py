"""A proxy on loopback that does to requests what networks and servers do: some fail, before or after the server has
acted, some are slow, some arrive twice, at once or later.

What happens to which request is drawn from a seed. Requests that write are handed on one after another, since the
server of the tests, unlike S3, may check a condition and write in two steps.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from contextlib import nullcontext, suppress
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, dict[str, str], bytes]  # status, headers, content
SLOW_DOWN = b"<?xml version='1.0'?><Error><Code>%s</Code><Message>please wait</Message></Error>"
RATES = {
    "500": 0.02,
    "503": 0.02,
    "reset before": 0.02,
    "reset after": 0.03,
    "500 after": 0.03,
    "slow": 0.03,
    "twice": 0.04,
    "again later": 0.03,
}


class BadNetwork:
    """Stands before a server. `done` counts what was done to requests."""

    def __init__(self, host: str, port: int, seed: int = 0) -> None:
        self.target, self.draw, self.done = (host, port), random.Random(seed), Counter[str]()
        self.is_bad, self.is_down, self.writing = True, False, threading.Lock()
        self.later: list[threading.Thread] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def handle_one_request(self) -> None:
                with suppress(ConnectionError):
                    super().handle_one_request()

            def serve(self) -> None:
                proxy.serve(self)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = serve

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        for one in self.later:
            one.join()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def _fate(self) -> str:
        if self.is_down or not self.is_bad:
            return "reset before" if self.is_down else "well"
        return self.draw.choices([*RATES, "well"], [*RATES.values(), 1 - sum(RATES.values())])[0]

    def serve(self, request: BaseHTTPRequestHandler) -> None:
        """Hand a request on, or not, and answer it, or not."""
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        what = request.command, request.path, body, dict(request.headers)
        fate = self._fate()
        self.done[fate] += 1
        if fate in ("500", "503"):
            code = b"SlowDown" if fate == "503" else b"InternalError"
            return _answer(request, int(fate), {}, SLOW_DOWN % code)
        if fate == "reset before":
            return _reset(request)
        if fate == "slow":
            time.sleep(0.3)
        answer = self._forward(*what)
        if fate == "twice":
            answer = self._forward(*what)
        if fate == "again later":
            self.later.append(threading.Timer(0.4, self._forward, what))
            self.later[-1].start()
        if fate == "reset after":
            return _reset(request)
        if fate == "500 after":
            return _answer(request, 500, {}, SLOW_DOWN % b"InternalError")
        return _answer(request, *answer)

    def _forward(
        self, method: str, path: str, body: bytes, headers: dict[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        connection = HTTPConnection(*self.target)
        try:
            with self.writing if method in ("PUT", "POST", "DELETE") else nullcontext():
                connection.request(method, path, body, {**headers, "Connection": "close"})
                response = connection.getresponse()
                return response.status, dict(response.getheaders()), response.read()
        finally:
            connection.close()


def _answer(request: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes) -> None:
    request.send_response_only(status)
    kept = {k: v for k, v in headers.items() if k.lower() not in ("connection", "transfer-encoding", "content-length")}
    length = headers.get("Content-Length") if request.command == "HEAD" else None
    for name, value in {**kept, "Content-Length": length or str(len(body))}.items():
        request.send_header(name, value)
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(body)


def _reset(request: BaseHTTPRequestHandler) -> None:
    request.close_connection = True
    request.connection.close()
