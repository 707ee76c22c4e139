"""A web server on loopback that answers well or badly, by path; `asked` has what reached it."""

from __future__ import annotations

import contextlib
import http.server
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Web:
    port: int
    asked: list[str] = field(default_factory=list)
    logins: list[str | None] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextlib.contextmanager
def serving(files: dict[str, bytes], moved: dict[str, str] | None = None) -> Iterator[Web]:
    """Serve `files` by path, and redirects. `/endless`, `/drip` and `/drip-head` never end,
    `/quiet/PATH` leaves the length of its body out."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            web.asked.append(self.path)
            web.logins.append(self.headers.get("Authorization"))
            path = self.path.partition("?")[0]
            with contextlib.suppress(ConnectionError):
                if path in (moved or {}):
                    self.send_response(302)
                    self.send_header("Location", (moved or {})[path])
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                elif path == "/drip-head":
                    for letter in b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 10_000:
                        self.wfile.write(bytes([letter]))
                        time.sleep(0.05)
                elif path in ("/drip", "/endless"):
                    self.send_response(200)
                    self.end_headers()
                    while True:
                        self.wfile.write(b"x" if path == "/drip" else b"x" * 2**16)
                        time.sleep(0.05 if path == "/drip" else 0)
                else:
                    self._file(path)

        def _file(self, path: str) -> None:
            body = files.get(path.removeprefix("/quiet"))
            self.send_response(404 if body is None else 200)
            if path.startswith("/quiet"):
                self.send_header("Connection", "close")
            else:
                self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            if self.command == "HEAD" or body is None:
                return
            # In pieces, so that one read does not bring all of it.
            half = len(body) // 2
            self.wfile.write(body[:half])
            self.wfile.flush()
            time.sleep(0.05)
            self.wfile.write(body[half:])
            self.close_connection = path.startswith("/quiet")

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        web = Web(server.server_port)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield web
        server.shutdown()
