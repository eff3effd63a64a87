"""A stand-in for ZeroGPU's device service on loopback, and the app started against it.

`DeviceService` answers the four requests of the service as it does, and refuses as it does. Run as a program, this file
is the app on a Space with ZeroGPU, except that its GPU is the CPU: the two steps in which `spaces` touches a card are
replaced, one of them by reading the packed weights from disk, as the real one does.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

SOME_LEFT = 25  # seconds


@dataclass
class DeviceService:
    """mode: how the next requests for a GPU are answered. idle: whether a process that is there may be used again.
    granted: what was asked for, of each grant; refused: of each refusal; released: how many were given back."""

    mode: str = "ok"
    idle: bool = False
    granted: list[dict[str, str]] = field(default_factory=list)
    refused: list[dict[str, str]] = field(default_factory=list)
    released: int = 0
    failed: int = 0
    reported: bool = False

    def __post_init__(self) -> None:
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *values: Any) -> None:
                pass

            def do_POST(self) -> None:
                url = urlsplit(self.path)
                service.answer(self, url.path, dict(parse_qsl(url.query)))

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, request: BaseHTTPRequestHandler, path: str, asked: dict[str, str]) -> None:
        match path:
            case "/startup-report":
                self.reported = True
                send(request, 200)
            case "/allow":
                send(request, 200)
            case "/release":
                self.released += 1
                self.failed += asked.get("fail") == "true"
                send(request, 200)
            case "/schedule":
                self._schedule(request, asked)
            case _:
                send(request, 404)

    def _schedule(self, request: BaseHTTPRequestHandler, asked: dict[str, str]) -> None:
        number = len(self.granted) + 1
        grant = {"idle": self.idle, "nvidiaIndex": 0, "nvidiaUUID": "GPU-0", "allowToken": f"token-{number}"}
        enough = self.mode in ("ok", "queued") or (
            self.mode == "some left" and float(asked["durationSeconds"]) <= SOME_LEFT
        )
        (self.granted if enough else self.refused).append(asked)
        match self.mode:
            case "queued":
                stream(request, ["ping", "ping", "succeeded"], grant)
            case _ if enough:
                send(request, 200, grant)
            case "queue timeout":
                stream(request, ["ping", "failed"])
            case "quota":
                headers = {"X-Approve-Result": "quota-exceeded", "X-Authenticated": "regular"}
                send(request, 429, {"left": 0, "wait": 3600}, headers)
            case "some left":  # enough for what is short
                headers = {"X-Approve-Result": "quota-exceeded", "X-Authenticated": "regular"}
                send(request, 429, {"left": SOME_LEFT, "wait": 3600}, headers)
            case "duration":
                send(request, 429, {"left": 0, "wait": -1}, {"X-Approve-Result": "illegal-duration"})
            case "runs":
                send(request, 429, {"left": 0, "wait": 0}, {"X-Approve-Result": "runs-exceeded"})
            case "credits":
                send(request, 429, {"left": 0, "wait": 1}, {"X-Approve-Result": "pending-overquota-exceeded"})
            case "none":
                send(request, 503)
            case "expired":  # the visitor's token
                send(request, 401)
            case "broken":
                send(request, 500)
            case other:
                raise ValueError(other)


def send(
    request: BaseHTTPRequestHandler,
    status: int,
    body: dict[str, Any] | None = None,
    headers: dict[str, str] | None = None,
) -> None:
    data = b"" if body is None else json.dumps(body).encode()
    request.send_response(status)
    own = {"Content-Type": "application/json", "Content-Length": str(len(data))}
    for name, value in ((headers or {}) | own).items():
        request.send_header(name, value)
    request.end_headers()
    request.wfile.write(data)


def stream(request: BaseHTTPRequestHandler, events: list[str], grant: dict[str, Any] | None = None) -> None:
    request.send_response(200)
    for name, value in {"Content-Type": "text/event-stream", "X-Queuing-Reason": "node", "Connection": "close"}.items():
        request.send_header(name, value)
    request.end_headers()
    for event in events:
        data = f"data: {json.dumps(grant)}\n" if event == "succeeded" else ""
        request.wfile.write(f"event: {event}\n{data}\n".encode())
        request.wfile.flush()
        time.sleep(0.2)
    request.close_connection = True


# ------------------------------------------------------------------------------------------------------------- the app


def read_packs(callback: Any = None) -> None:
    """What `spaces.zero.torch.move` does, with the CPU in place of the card."""
    import torch
    from spaces.zero.torch import patching

    for pack in patching.tensor_packs:
        with open(pack.path(), "rb") as file:
            for tensor, size, aligned in [entry for batch in [*pack.batches, pack.big_tensors] for entry in batch]:
                data = bytearray(file.read(aligned)[:size])
                storage = torch.frombuffer(data, dtype=torch.uint8).untyped_storage()
                weight = torch.empty(0, dtype=tensor.dtype).set_(storage, 0, tensor.shape, tensor.stride())
                for fake in pack.fakes[tensor]:
                    fake.data = weight


def slowly(file: Path) -> Callable[[bytes], Iterator[bytes]]:
    """`serve`, which takes as many seconds for each step as a file says."""
    from core.studio.elsewhere import serve

    def served(payload: bytes) -> Iterator[bytes]:
        for message in serve(payload):
            yield message
            time.sleep(float(file.read_text()))

    return served


def main() -> None:
    import os
    import sys

    sys.path.insert(0, os.getcwd())
    import spaces.zero.torch

    spaces.zero.torch.init = lambda uuid: None
    spaces.zero.torch.move = read_packs
    import torch

    import app
    from core.models import placing
    from core.studio import elsewhere
    from tabs import zerogpu

    placing.best_dtype = lambda device: torch.float32  # this GPU is a CPU, which may be slow in half precision
    zerogpu.serve = slowly(Path(os.environ["SLOW"]))
    if folder := os.environ.get("TEXT_MODEL"):
        from dataclasses import replace

        from core.models.cards import Embedded
        from core.models.t2i_cards import TEXT_TO_IMAGE
        from tabs.invert import endpoints, tab

        card = TEXT_TO_IMAGE["avatars-t2i"]
        TEXT_TO_IMAGE["stand-in"] = replace(card, id="stand-in", title="Stand-in", source=Embedded(folder))
        endpoints.FIRST = tab.FIRST = "stand-in"
    elsewhere.MAX_ON_CPU = int(os.environ.get("MAX_ON_CPU", elsewhere.MAX_ON_CPU))
    elsewhere.GRANT = int(os.environ.get("GRANT", elsewhere.GRANT))
    app.main()


if __name__ == "__main__":
    main()
