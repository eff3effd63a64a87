"""How the page is served: its text compressed, and the pictures that come with the app by addresses of their own, so
that a browser loads them when they come into view, and once."""

from __future__ import annotations

import hashlib
import io
from typing import Any

from PIL import Image
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from core.cache import Cache, Counted
from core.memory import MAX_SHOWN
from core.studio import library
from core.studio.known_models import is_known

COMPRESSED = ("/", "/config", "/gradio_api/info", "/info")
SIDE = 192  # of an example among the cards
KEPT = "public, max-age=86400"

SHOWN: Cache[Counted[bytes]] = Cache(MAX_SHOWN, "shown")


class Compressed:
    """Compresses the page and what describes it; files and streams go out as they are."""

    def __init__(self, app: ASGIApp) -> None:
        self.plain, self.small = app, GZipMiddleware(app, minimum_size=1024, compresslevel=6)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        wanted = scope["type"] == "http" and scope["path"].removeprefix(scope.get("root_path", "")) in COMPRESSED
        await (self.small if wanted else self.plain)(scope, receive, send)


def settings() -> dict[str, Any]:
    """For the application that Gradio makes."""
    return {"middleware": [Middleware(Compressed)], "routes": [Route("/shown/{kind}/{model}/{name}", shown)]}


def address(kind: str, model_id: str, name: str) -> str:
    """Of a picture that comes with the app, with a version that changes with it. kind: example or direction."""
    data = picture(kind, model_id, name)
    version = hashlib.sha256(data or b"").hexdigest()[:12]
    return f"shown/{kind}/{model_id}/{name}?{version}"


def picture(kind: str, model_id: str, name: str) -> bytes | None:
    """The WebP file of an example, or of a direction's thumbnail; None if there is none of that name."""
    if not is_known(model_id):
        return None
    if kind == "example":
        path = next((path for path in library.examples(model_id) if path.stem == name), None)
        return None if path is None else _webp(("example", path), path.read_bytes(), SIDE)
    preset = library.shipped(model_id).get(name) if kind == "direction" else None
    return None if preset is None or preset.thumbnail is None else _webp(("direction", name), preset.thumbnail)


def _webp(key: Any, data: bytes, side: int | None = None) -> bytes:
    key = (*key, hashlib.sha256(data).hexdigest())
    kept = SHOWN.get(key)
    if kept is None:
        with Image.open(io.BytesIO(data)) as opened:
            made = opened.convert("RGB")
        if side is not None:
            made = made.resize((side, side), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        made.save(buffer, "WEBP", quality=92)
        kept = Counted(buffer.getvalue(), len(buffer.getvalue()))
        SHOWN.put(key, kept)
    return kept.value


async def shown(request: Request) -> Response:
    """A picture that comes with the app."""
    data = picture(*(request.path_params[name] for name in ("kind", "model", "name")))
    if data is None:
        return Response(status_code=404)
    return Response(data, media_type="image/webp", headers={"Cache-Control": KEPT})
