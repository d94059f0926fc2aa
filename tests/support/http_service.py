"""A service on loopback that answers requests as a function decides."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

Answer = Callable[[str, str], object]
"""Gets the method and the path of a request, with its query; returns the JSON of the answer, or the
status of one without content."""


@contextmanager
def serving(answer: Answer) -> Iterator[str]:
    """Serve `answer` while the block runs; yield the address of the service."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", "0")))
            answered = answer(self.command, self.path)
            status = answered if isinstance(answered, HTTPStatus) else HTTPStatus.OK
            body = json.dumps(answered).encode() if status is HTTPStatus.OK else b""
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_PUT = do_DELETE = do_GET  # noqa: N815 - the names are those of the methods

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
