"""What is answered over HTTP: the page, its messages, logs, metrics, and what its buttons ask for."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers, QueryParams
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ipkernel_ext.dashboard import metrics, page
from ipkernel_ext.dashboard.access import Door
from ipkernel_ext.dashboard.feed import Feed
from ipkernel_ext.dashboard.looking import LINES, Looker
from ipkernel_ext.errors import ParallelError

BODY = 65536  # bytes of a request
ENGINES = 65536  # that a cluster is scaled to, at most

EVERYWHERE = {
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def application(looker: Looker, door: Door, title: str) -> Starlette:
    """The server of a cluster's dashboard.

    Parameters
    ----------
    looker
        Asks the cluster.
    door
        Says who is let in.
    title
        What the page is called.
    """
    feed = Feed(looker.look)
    text, policy = page.build(title)

    async def show(request: Request) -> Response:
        return HTMLResponse(text, headers={"content-security-policy": policy})

    async def events(request: Request) -> Response:
        async def lines() -> AsyncIterator[str]:
            async for message in feed.messages():
                yield f"data: {message}\n\n"

        return StreamingResponse(lines(), media_type="text/event-stream")

    async def measured(request: Request) -> Response:
        return Response(metrics.text(await feed.facts()), media_type=metrics.TYPE)

    async def list_logs(request: Request) -> Response:
        return await _done(lambda: sorted(looker.logs(), key=_by_number))

    async def log(request: Request) -> Response:
        lines = request.query_params.get("lines", "200")
        if not lines.isdecimal():
            return _wrong(f"{lines!r} is no number of lines", 400)
        return await _done(lambda: looker.log(request.path_params["name"], min(int(lines), LINES)))

    async def act(request: Request) -> Response:
        do = _action(request.path_params["action"], await _body(request), looker)
        if isinstance(do, str):
            return _wrong(do, 400)
        answer = await _done(do)
        await feed.look()
        return answer

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        running = asyncio.create_task(feed.run())
        try:
            yield
        finally:
            running.cancel()
            await asyncio.to_thread(looker.close)

    app = Starlette(
        routes=[
            Route("/", show),
            Route("/events", events),
            Route("/metrics", measured),
            Route("/logs", list_logs),
            Route("/logs/{name}", log),
            Route("/{action}", act, methods=["POST"]),
        ],
        lifespan=lifespan,
    )
    app.add_middleware(Guard, door=door)
    app.state.end = feed.end
    return app


class Guard:
    """Nothing is answered to who is not let in."""

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self._app = app
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        token = QueryParams(scope["query_string"]).get("token")
        why = self._door.refusal(scope["method"], dict(headers), token)
        answer = self._app
        if why is not None and "text/html" in headers.get("accept", ""):
            answer = HTMLResponse(page.refused(why), 403, headers={"content-security-policy": "default-src 'none'"})
        elif why is not None:
            answer = PlainTextResponse(f"{why}\n", 403)

        async def sent(message: Any) -> None:
            if message["type"] == "http.response.start":
                extra = [(name.encode(), value.encode()) for name, value in EVERYWHERE.items()]
                message = {**message, "headers": [*message["headers"], *extra]}
            await send(message)

        await answer(scope, receive, sent)


async def _body(request: Request) -> Any:
    """What a button asks for; None where that is no JSON, or too much."""
    read = bytearray()
    async for part in request.stream():
        read += part
        if len(read) > BODY:
            return None
    try:
        return json.loads(read)
    except ValueError:
        return None


def _action(name: str, body: Any, looker: Looker) -> Callable[[], str] | str:
    """What is to be done, or what is wrong with the request."""
    engines = body.get("engines") if isinstance(body, dict) else None
    if name == "scale":
        if isinstance(engines, bool) or not isinstance(engines, int) or not 0 <= engines <= ENGINES:
            return '{"engines": 4} says how many engines there are to be'
        return lambda: looker.scale(engines)
    if name not in ("interrupt", "restart"):
        return f"there is no {name}; there are interrupt, restart and scale"
    if not isinstance(engines, list) or not engines or not all(type(id) is int for id in engines):
        return '{"engines": [0, 1]} says which engines are meant'
    call = looker.interrupt if name == "interrupt" else looker.restart
    return lambda: call(engines)


async def _done(do: Callable[[], Any]) -> Response:
    """What came of something that may wait."""
    try:
        return JSONResponse({"said": await asyncio.to_thread(do)})
    except LookupError as error:
        return _wrong(str(error), 404)
    except (ParallelError, TimeoutError, ValueError, OSError) as error:
        return _wrong(str(error), 409)


def _wrong(text: str, status: int) -> Response:
    return JSONResponse({"error": text}, status)


def _by_number(name: str) -> tuple[bool, int, str]:
    """Engines after all others, and by their numbers."""
    kind, _, number = name.rpartition(" ")
    return kind == "engine", int(number) if kind == "engine" and number.isdigit() else 0, name
