"""A loopback GetEmbedding: it answers, limits the rate, fails or hangs as a test tells it."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from codiemb.encoder.spec import ApiSpec
from tests.support.evaluation_fakes import BagOfWords


class Service:
    """`plan`: what happens to the next requests: a code, an HTTP status, "hang", "short"; or an answer."""

    def __init__(self) -> None:
        self.plan: list[str | int] = []
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.closing = threading.Event()
        self.port = 0

    @property
    def inputs(self) -> list[list[str]]:
        return [body["Inputs"] for body in self.bodies]

    def spec(self, **settings: Any) -> ApiSpec:
        """The service of this machine, asked fast."""
        fast = {"requests_per_second": 1e6, "timeout_seconds": 0.3, "max_attempts": 4}
        here = {"protocol": "http", "endpoint": f"127.0.0.1:{self.port}"}
        return ApiSpec(**(here | fast | settings))

    def answer(self, inputs: list[str]) -> dict[str, Any]:
        """Vectors of length 3."""
        rows = 3 * BagOfWords().encode(inputs)
        return {"Data": [{"Embedding": row.tolist()} for row in rows], "Usage": {"TotalTokens": 1}}


@contextmanager
def serving() -> Iterator[Service]:
    """The service at a port of its own, until the block ends."""
    service = Service()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(service))
    service.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        service.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(service: Service) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            service.bodies.append(body)
            service.headers.append(dict(self.headers))
            event = service.plan.pop(0) if service.plan else "answer"
            if event == "hang":
                service.closing.wait()
            elif isinstance(event, int):
                self._send(event, {"Response": {}})
            elif event in ("answer", "short"):
                inputs = body["Inputs"][: -1 if event == "short" else None]
                self._send(200, {"Response": {**service.answer(inputs), "RequestId": "r"}})
            else:
                error = {"Code": event, "Message": f"about {self.headers['Authorization'][27:60]}"}
                self._send(200, {"Response": {"Error": error, "RequestId": "r"}})

        def _send(self, status: int, answer: dict[str, Any]) -> None:
            text = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None: ...

    return Handler
