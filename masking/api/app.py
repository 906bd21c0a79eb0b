"""The API as an ASGI application: the table of routes over a desk, and Twilio's face beside it."""

from __future__ import annotations

import re
from typing import Any

from starlette.convertors import CONVERTOR_TYPES, Convertor, register_url_convertor
from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from masking.api.desk import Desk
from masking.api.endpoints import Endpoint
from masking.api.operations import Operation
from masking.api.routes import TABLE
from masking.api.twilio import face as twilio
from masking.api.twilio.face import Face


class Segment(Convertor[str]):
    """One segment of a path without a colon: behind a colon stands a verb (`/v1/sessions/ses_…:close`)."""

    regex = "[^/:]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


if "segment" not in CONVERTOR_TYPES:
    register_url_convertor("segment", Segment())


class App:
    """Finds the endpoint of a path: fixed paths in a dict, the others by Starlette's router, in the table's order."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        by_path: dict[str, list[Operation]] = {}
        for operation in TABLE:
            by_path.setdefault(operation.path, []).append(operation)
        endpoints = {path: Endpoint(desk, path, operations) for path, operations in by_path.items()}
        self._fixed: dict[str, Any] = {path: endpoint for path, endpoint in endpoints.items() if "{" not in path}
        patterns = [Route(_pattern(path), endpoint) for path, endpoint in endpoints.items() if "{" in path]
        nowhere = Endpoint(desk, "", [])
        face = Face(desk)
        self._fixed[twilio.PATH] = face
        patterns += [Route(f"{twilio.PATH}/{{path:path}}", face), Route("/{path:path}", nowhere)]
        self._router = Router(patterns, redirect_slashes=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._router(scope, receive, send)
            return
        fixed = self._fixed.get(scope["path"])
        await (fixed or self._router)(scope, receive, send)


def _pattern(path: str) -> str:
    """`/v1/sessions/{session}:close` in Starlette's spelling; `{path}` alone may hold slashes."""
    return re.sub(r"\{(\w+)\}", lambda match: f"{{{match[1]}:{'path' if match[1] == 'path' else 'segment'}}}", path)
