"""The explorer's routes: JSON answers, uploads, and attacks as server-sent events.

Networks are asked by one thread, uploads are decoded by another, and attacks run in a few of their own, so that the
server itself always answers.
"""

import asyncio
import json
import re
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

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
from scenelab.app.middleware import Guard
from scenelab.app.schemas import AttackQuestion, ExplainQuestion, LayerQuestion, Question
from scenelab.app.watch import Summaries, read_from
from scenelab.errors import LabError
from scenelab.schema import describe

if TYPE_CHECKING:
    from scenelab.app.images import Images
    from scenelab.app.session import Session

STATIC = Path(__file__).parent / "static"
PROGRESS_SECONDS = 0.1
Kind = TypeVar("Kind", bound=Question)
Asked = Callable[["Session"], Any]


class Worker:
    """Threads for one kind of work, with a bound on the work that waits for them."""

    def __init__(self, threads: int, waiting: int) -> None:
        self.pool, self.room = ThreadPoolExecutor(threads), threads + waiting

    def submit(self, work: Callable[[], Any]) -> "asyncio.Future[Any]":
        """Start work in a thread; raise an HTTPException if too much waits already."""
        if self.room == 0:
            raise HTTPException(503, "too many requests are waiting; try again in a moment")
        self.room -= 1
        future = asyncio.get_running_loop().run_in_executor(self.pool, work)
        future.add_done_callback(self._release)
        return future

    def _release(self, future: "asyncio.Future[Any]") -> None:
        self.room += 1
        if not future.cancelled():
            future.exception()  # of work whose client has gone


class Application:
    """The explorer's endpoints for the runs of a catalog."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog, self.summaries = catalog, Summaries()
        self.answers, self.decoding = Worker(1, limits.WAITING), Worker(1, limits.WAITING)
        self.attacks = Worker(limits.ATTACKS, limits.ATTACKS_WAITING)
        self.files, self.stops = Worker(1, limits.WAITING), set[threading.Event]()
        self._images: Images | None = None

    def build(self, hosts: tuple[str, ...]) -> Starlette:
        """Return the ASGI application, which answers under the host names `hosts` only; empty for all names."""
        asked = {"predict": self.predict, "explain": self.explain, "features": self.features, "attack": self.attack}
        routes = [
            Route("/api/runs", self.runs),
            *(Route(f"/api/runs/{{run:path}}/{name}", partial(self.log, name)) for name in ("metrics", "timings")),
            *(Route(f"/api/runs/{{run:path}}/{name}", partial(self.about, name)) for name in ABOUT),
            Route("/api/compare", self.compare),
            Route("/api/image", self.image),
            Route("/api/images", self.upload, methods=["POST"]),
            *(Route(f"/api/{name}", endpoint, methods=["POST"]) for name, endpoint in asked.items()),
            Mount("/", StaticFiles(directory=STATIC, html=True)),
        ]
        handlers: dict[Any, Any] = {HTTPException: _refuse, ClientDisconnect: _refuse}
        handlers |= {LabError: _explain_error, ValidationError: _explain_error}
        return Starlette(routes=routes, middleware=[Middleware(Guard, hosts=hosts)], exception_handlers=handlers)

    def warm_up(self) -> None:
        """Import torch and start the decoding process, so that both are ready before the first image."""
        self.answers.pool.submit(lambda: self.images.decoder.start())

    @property
    def images(self) -> "Images":
        """The images; they need torch, which the server itself does not wait for."""
        if self._images is None:
            from scenelab.app.images import Images

            self._images = Images()
        return self._images

    def close(self) -> None:
        """End all attacks and the decoding process."""
        for stop in [*self.stops]:
            stop.set()
        for worker in (self.answers, self.attacks, self.decoding, self.files):
            worker.pool.shutdown(wait=False, cancel_futures=True)
        if self._images is not None:
            self._images.decoder.close()

    async def runs(self, request: Request) -> Response:
        """GET /api/runs: a summary of every run."""
        summaries = await self.files.submit(lambda: self.summaries.of(self.catalog.runs()))
        return _json(summaries)

    async def log(self, name: str, request: Request) -> Response:
        """GET /api/runs/RUN/metrics?offset=0, or timings: the lines of a run's file from there on, at most 4 MiB.

        The header `x-offset` is 0 instead if the file has become shorter.
        """
        offset, run = request.query_params.get("offset", "0"), request.path_params["run"]
        if not re.fullmatch(r"[0-9]{1,15}", offset):
            raise HTTPException(400, "the offset is not a whole number")
        read = lambda: read_from(getattr(self.catalog.run(run), name), int(offset))  # noqa: E731
        lines, start = await self.files.submit(read)
        return Response(lines, media_type="application/x-ndjson", headers={"x-offset": str(start)})

    async def about(self, what: str, request: Request) -> Response:
        """GET /api/runs/RUN/network, filters or mistakes: what a network is, or got wrong."""
        return await self._ask(request.path_params["run"], ABOUT[what])

    async def compare(self, request: Request) -> Response:
        """GET /api/compare?first=RUN&second=RUN: where two networks disagree."""
        second = request.query_params.get("second", "")

        def answer(first: "Session") -> Any:
            from scenelab.app.mistakes import compare

            return compare(first, self.catalog.session(second))

        return await self._ask(request.query_params.get("first", ""), answer)

    async def image(self, request: Request) -> Response:
        """GET /api/image?run=RUN&image=NAME: what a network sees of an image, as PNG."""
        question = Question(run=request.query_params.get("run", ""), image=request.query_params.get("image", ""))

        def answer(session: "Session") -> Any:
            from scenelab.evaluation.adversarial import to_png

            return to_png(self.images.pixels(session, question.image).float() / 255)

        return await self._ask(question.run, answer)

    async def upload(self, request: Request) -> Response:
        """POST /api/images?name=FILE, with an image file as the body: decode it and keep it in memory."""
        data = await _read(request, limits.UPLOAD_BYTES)
        name = Path(request.query_params.get("name", "")).name or "upload"
        return _json(await self.decoding.submit(lambda: self.images.add(data, name, self.catalog.sizes())))

    async def predict(self, request: Request) -> Response:
        """POST /api/predict with a `Question`: the top five categories."""
        question = await _parse(request, Question)
        return await self._ask(
            question.run, lambda session: session.predict(self.images.pixels(session, question.image))
        )

    async def explain(self, request: Request) -> Response:
        """POST /api/explain with an `ExplainQuestion`: an attribution map."""
        question = await _parse(request, ExplainQuestion)
        pixels = self.images.pixels
        return await self._ask(question.run, lambda session: session.explain(pixels(session, question.image), question))

    async def features(self, request: Request) -> Response:
        """POST /api/features with a `LayerQuestion`: a layer's feature maps, or the patches that excite a channel."""
        question = await _parse(request, LayerQuestion)

        pixels = self.images.pixels
        return await self._ask(
            question.run, lambda session: session.features(pixels(session, question.image), question)
        )

    async def attack(self, request: Request) -> Response:
        """POST /api/attack with an `AttackQuestion`: events `progress` and at last `result` or `error`.

        The attack ends with its client: closing the connection cancels it.
        """
        question = await _parse(request, AttackQuestion)
        session, pixels = await self.answers.submit(lambda: self._prepare(question))
        stop, passes = threading.Event(), [0]
        report = partial(passes.__setitem__, 0)
        job = self.attacks.submit(lambda: session.attack(pixels, question, stop, report))
        self.stops.add(stop)
        return StreamingResponse(self._events(request, job, stop, passes), media_type="text/event-stream")

    def _prepare(self, question: Question) -> tuple["Session", Any]:
        session = self.catalog.session(question.run)
        return session, self.images.pixels(session, question.image)

    async def _events(
        self, request: Request, job: "asyncio.Future[Any]", stop: threading.Event, passes: list[int]
    ) -> AsyncIterator[str]:
        """Yield the events of an attack; stop it if the client has gone."""
        from scenelab.app.session import StoppedError

        reported = None
        try:
            while not job.done():
                if await request.is_disconnected():
                    return
                if passes[0] != reported:
                    reported = passes[0]
                    yield f"event: progress\ndata: {reported}\n\n"
                await asyncio.wait([job], timeout=PROGRESS_SECONDS)
            yield f"event: result\ndata: {json.dumps(job.result())}\n\n"
        except (LabError, StoppedError, asyncio.CancelledError) as error:
            reason = str(error) or f"the attack was stopped; it may take {limits.ATTACK_SECONDS:g} seconds"
            yield f"event: error\ndata: {json.dumps(reason)}\n\n"
        finally:
            stop.set()
            job.cancel()
            self.stops.discard(stop)

    async def _ask(self, run: str, answer: Asked) -> Response:
        """Return the answer of a network, which may be JSON or a PNG, as a response."""
        value = await self.answers.submit(lambda: answer(self.catalog.session(run)))
        return Response(value, media_type="image/png") if isinstance(value, bytes) else _json(value)


def _mistakes(session: "Session") -> Any:
    from scenelab.app.mistakes import read_mistakes

    return read_mistakes(session)


ABOUT: dict[str, Asked] = {
    "network": lambda session: session.describe(),
    "filters": lambda session: session.filters(),
    "mistakes": _mistakes,
}


def _json(value: Any) -> Response:
    return Response(to_json(value, inf_nan_mode="null"), media_type="application/json")


def _refuse(request: Request, error: Exception) -> Response:
    status, reason = (error.status_code, error.detail) if isinstance(error, HTTPException) else (400, "")
    return Response(to_json({"error": reason}), status, media_type="application/json")


def _explain_error(request: Request, error: Exception) -> Response:
    reason = describe(error) if isinstance(error, ValidationError) else str(error)
    status = 404 if isinstance(error, UnknownError) else 400
    return Response(to_json({"error": reason}), status, media_type="application/json")


async def _parse(request: Request, kind: type[Kind]) -> Kind:
    return kind.model_validate_json(await _read(request, limits.JSON_BYTES))


async def _read(request: Request, limit: int) -> bytes:
    """Return a request's body; raise an HTTPException if it is too long or takes too long."""

    async def read() -> bytes:
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > limit:
                raise HTTPException(413, f"the body is longer than {limit} bytes")
        return bytes(body)

    length = request.headers.get("content-length", "0")
    if not length.isascii() or not length.isdigit() or len(length) > 20 or int(length) > limit:
        raise HTTPException(413, f"the body is longer than {limit} bytes")
    with suppress(asyncio.TimeoutError):
        return await asyncio.wait_for(read(), limits.UPLOAD_SECONDS)
    raise HTTPException(408, f"the body did not arrive within {limits.UPLOAD_SECONDS:g} seconds")
