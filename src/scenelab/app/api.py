"""The explorer's routes: JSON answers, uploads, and attacks as server-sent events.

Threads ask the networks and decode uploads one at a time, and run a few attacks, so the server itself always answers.
"""

import asyncio
import json
import re
import threading
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anyio import CapacityLimiter, fail_after
from anyio.to_thread import run_sync
from pydantic import ValidationError
from pydantic_core import to_json
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from scenelab.app import limits
from scenelab.app.catalog import Catalog, UnknownError
from scenelab.app.images import Images
from scenelab.app.middleware import Guard
from scenelab.app.schemas import AttackQuestion, ExplainQuestion, LayerQuestion, Question
from scenelab.errors import LabError
from scenelab.runs.pretrained import example_images
from scenelab.runs.summary import Summaries, read_from
from scenelab.schema import describe
from scenelab_scenes import KINDS

if TYPE_CHECKING:
    from scenelab.app.session import Session

PROGRESS_SECONDS = 0.1


class Application:
    """The explorer's endpoints for the runs of a catalog."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog, self.summaries, self.images = catalog, Summaries(), Images(catalog)
        self.answers, self.decoding, self.files = CapacityLimiter(1), CapacityLimiter(1), CapacityLimiter(1)
        self.attacks, self.stops = CapacityLimiter(limits.ATTACKS), set[threading.Event]()

    def build(self, hosts: tuple[str, ...]) -> Starlette:
        """Return the ASGI application, which answers under the host names `hosts` only; empty for all names."""
        run, post = "/api/runs/{run:path}", partial(Route, methods=["POST"])
        questions = {"predict": Question, "explain": ExplainQuestion, "features": LayerQuestion}
        routes = [
            Route("/api/runs", self.runs),
            *(Route(f"{run}/{name}", partial(self.log, name)) for name in ("metrics", "timings")),
            *(Route(f"{run}/{name}", partial(self.about, name)) for name in ("network", "filters", "mistakes")),
            Route("/api/compare", self.compare),
            Route(f"{run}/batch", self.batch),
            Route("/api/image", self.image),
            Route("/api/images", self.examples),
            post("/api/images", self.upload),
            post("/api/attack", self.attack),
            *(post(f"/api/{name}", partial(self.answer, kind, name)) for name, kind in questions.items()),
            Mount("/", StaticFiles(directory=Path(__file__).parent / "static", html=True)),
        ]
        guard = Middleware(Guard, hosts=hosts)
        handlers: Any = dict.fromkeys((LabError, ValidationError, HTTPException, ClientDisconnect), _refuse)
        return Starlette(routes=routes, middleware=[guard], exception_handlers=handlers)

    def warm_up(self) -> None:
        """Start the decoding process and import torch, so that both are ready before the first image."""
        self.images.decoder.start()
        threading.Thread(target=import_module, args=("scenelab.app.session",), daemon=True).start()

    def close(self) -> None:
        """End all attacks and the decoding process."""
        for stop in [*self.stops]:
            stop.set()
        self.images.decoder.close()

    async def runs(self, request: Request) -> Response:
        """GET /api/runs: a summary of every run."""
        return _json(await run_sync(lambda: self.summaries.of(self.catalog.runs()), limiter=self.files))

    async def log(self, name: str, request: Request) -> Response:
        """GET /api/runs/RUN/metrics?offset=0, or timings: the lines of a run's file from there on, at most 4 MiB.

        The header `x-offset` is 0 instead if the file has become shorter.
        """
        offset, run = request.query_params.get("offset", "0"), request.path_params["run"]
        if not re.fullmatch(r"[0-9]{1,15}", offset):
            raise HTTPException(400, "the offset is not a whole number")
        read = lambda: read_from(getattr(self.catalog.run(run), name), int(offset))  # noqa: E731
        lines, start = await run_sync(read, limiter=self.files)
        return Response(lines, media_type="application/x-ndjson", headers={"x-offset": str(start)})

    async def about(self, what: str, request: Request) -> Response:
        """GET /api/runs/RUN/network, filters or mistakes: what a network is, or got wrong."""
        return _json(await self._ask(request.path_params["run"], lambda session: getattr(session, what)()))

    async def compare(self, request: Request) -> Response:
        """GET /api/compare?first=RUN&second=RUN: where two networks disagree."""
        first, second = (request.query_params.get(name, "") for name in ("first", "second"))
        return _json(await self._ask(first, lambda session: session.compare(self.catalog.session(second))))

    async def batch(self, request: Request) -> Response:
        """GET /api/runs/RUN/batch: images of the batch before a run's last checkpoint, as augmented, as JPEG."""
        path = self.catalog.run(request.path_params["run"]).batch
        if not path.is_file():
            raise UnknownError("this run has no batch yet; it saves one with each checkpoint")
        return Response(await run_sync(path.read_bytes, limiter=self.files), media_type="image/jpeg")

    async def examples(self, request: Request) -> Response:
        """GET /api/images: the names of images that ship with the package, and of the kinds of synthetic scenes."""
        return _json([f"example:{path.stem}" for path in example_images()] + [f"synthetic:{kind}" for kind in KINDS])

    async def image(self, request: Request) -> Response:
        """GET /api/image?run=RUN&image=NAME: what a network sees of an image, as PNG."""
        question = Question(run=request.query_params.get("run", ""), image=request.query_params.get("image", ""))
        show = lambda session: session.show(self.images.pixels(session, question.image))  # noqa: E731
        return Response(await self._ask(question.run, show), media_type="image/png")

    async def upload(self, request: Request) -> Response:
        """POST /api/images?name=FILE, with an image file as the body: decode it and keep it in memory."""
        data, name = await _read(request, limits.UPLOAD_BYTES), Path(request.query_params.get("name", "")).name
        add = lambda: self.images.add(data, name or "upload", self.catalog.sizes())  # noqa: E731
        return _json(await run_sync(add, limiter=self.decoding))

    async def answer(self, kind: type[Question], method: str, request: Request) -> Response:
        """POST /api/predict, explain or features with a question: the answer of `Session`'s method."""
        question = kind.model_validate_json(await _read(request))
        pixels = self.images.pixels
        ask = lambda session: getattr(session, method)(pixels(session, question.image), question)  # noqa: E731
        return _json(await self._ask(question.run, ask))

    async def attack(self, request: Request) -> Response:
        """POST /api/attack with an `AttackQuestion`: events `progress` and at last `result` or `error`.

        The attack ends with its client: closing the connection cancels it.
        """
        question = AttackQuestion.model_validate_json(await _read(request))
        prepare = lambda session: (session, self.images.pixels(session, question.image))  # noqa: E731
        session, pixels = await self._ask(question.run, prepare)
        events = self._events(request, partial(session.attack, pixels, question))
        return StreamingResponse(events, media_type="text/event-stream")

    async def _events(self, request: Request, attack: Callable[..., Any]) -> AsyncIterator[str]:
        """Run an attack and yield its events; stop it if the client has gone or it takes too long."""
        stop, passes, reported, began = threading.Event(), [0], None, time.monotonic()
        report = partial(passes.__setitem__, 0)
        job = asyncio.ensure_future(run_sync(attack, stop, report, limiter=self.attacks, abandon_on_cancel=True))
        self.stops.add(stop)
        try:
            while not job.done():
                if await request.is_disconnected():
                    return
                if time.monotonic() - began > limits.ATTACK_SECONDS:
                    stop.set()
                if passes[0] != reported:
                    reported = passes[0]
                    yield f"event: progress\ndata: {reported}\n\n"
                await asyncio.wait([job], timeout=PROGRESS_SECONDS)
            yield f"event: result\ndata: {json.dumps(job.result())}\n\n"
        except LabError as error:
            yield f"event: error\ndata: {json.dumps(str(error))}\n\n"
        finally:
            stop.set()
            job.cancel()
            self.stops.discard(stop)

    async def _ask(self, run: str, answer: "Callable[[Session], Any]") -> Any:
        """Return the answer of a run's network, in a thread."""
        return await run_sync(lambda: answer(self.catalog.session(run)), limiter=self.answers)


def _json(value: Any) -> Response:
    return Response(to_json(value, inf_nan_mode="null"), media_type="application/json")


def _refuse(request: Request, error: Exception) -> Response:
    """Return the response to a request that failed."""
    status = getattr(error, "status_code", 404 if isinstance(error, UnknownError) else 400)
    reason = describe(error) if isinstance(error, ValidationError) else getattr(error, "detail", str(error))
    return Response(to_json({"error": reason}), status, media_type="application/json")


async def _read(request: Request, limit: int = limits.JSON_BYTES) -> bytes:
    """Return a request's body; raise an HTTPException if it is too long or takes too long."""
    body = bytearray()
    try:
        with fail_after(limits.BODY_SECONDS):
            async for part in request.stream():
                body += part
                if len(body) > limit:
                    raise HTTPException(413, f"the body is longer than {limit} bytes")
    except TimeoutError as error:
        raise HTTPException(408, f"the body did not arrive within {limits.BODY_SECONDS:g} seconds") from error
    return bytes(body)
