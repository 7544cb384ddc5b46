"""The demo page and the JavaScript client beside it (`voxkit/serve/static`)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxkit.optional import require

if TYPE_CHECKING:
    from fastapi import FastAPI

STATIC = Path(__file__).resolve().parent / "static"
_TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}
# Scripts and styles of this service alone; the WebSocket may be another replica's.
_HEADERS = {"Content-Security-Policy": "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:; base-uri 'none'; "
                                       "form-action 'none'; frame-ancestors 'none'",
            "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache"}


def mount(app: FastAPI) -> None:
    """Add `GET /` (the page) and `GET /static/NAME` to the service."""
    responses = require("fastapi.responses", "serve", why="the demo page")
    files = {path.name: path for path in STATIC.iterdir() if path.suffix in _TYPES}

    def answer(path: Path) -> Any:
        return responses.Response(path.read_bytes(), media_type=_TYPES[path.suffix], headers=_HEADERS)

    @app.get("/", include_in_schema=False)
    def page() -> Any:
        return answer(files["index.html"])

    @app.get("/static/{name}", include_in_schema=False)
    def static(name: str) -> Any:
        if name not in files:
            return responses.PlainTextResponse(f"no such file: {name}", 404)
        return answer(files[name])
