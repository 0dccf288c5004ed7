"""The ASGI application: what is the server's own, what goes through the cache, and what is passed on."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, cast

from starlette.applications import Starlette
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from gewe_cache.gewe.pass_through import PassThrough
from gewe_cache.log import Log
from gewe_cache.sending.shared import Shared
from gewe_cache.server import answers
from gewe_cache.server.access_log import line_of
from gewe_cache.server.admin.site import AdminSite
from gewe_cache.server.database_watch import DatabaseWatch
from gewe_cache.server.exchange import BodyTooLongError, BodyTooSlowError, ClientLeftError, Exchange
from gewe_cache.server.file_calls import FileCalls, is_of_files
from gewe_cache.server.files import Files
from gewe_cache.server.metrics import Metrics
from gewe_cache.server.passing import pass_on
from gewe_cache.server.post_image import PostImageCalls
from gewe_cache.server.reading import find_base_path, is_chunked
from gewe_cache.server.senders import Senders
from gewe_cache.server.troubles import Troubles

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from gewe_cache.server.access_log import JsonLines
    from gewe_cache.server.answers import Answer
    from gewe_cache.server.settings import ServerSettings
    from gewe_cache.settings import Tuning

_log = Log("gewe_cache.server")

_OWN_PREFIX = "/_gewe-cache"
_OWN = frozenset({"/healthz", "/healthz/live", "/healthz/ready", _OWN_PREFIX})
_NOT_PASSED = frozenset({"CONNECT", "TRACE"})
_CLIENT_LEFT = 499
_LEAVING_SECONDS = 5.0


class ServerApp:
    """Serves everything. Belongs to one event loop."""

    def __init__(self, settings: ServerSettings, lines: JsonLines | None = None, tuning: Tuning | None = None) -> None:
        """Connect to nothing yet; ``lines`` takes the access log.

        Raises:
            ValueError, StoreError: a setting, or the database's driver, is unusable.
        """
        self._settings = settings
        self._lines = lines
        self.metrics = Metrics()
        self.shared = Shared(settings.database, self.metrics.database_errors.inc, tuning)
        self._watch = DatabaseWatch(self.shared, settings.ttl)
        self._upstream = PassThrough(settings.upstream, settings.pass_timeout)
        self._files = Files(settings.public_url, settings.limits)
        self._file_calls = FileCalls(settings, self._files)
        self._senders = Senders(settings, self.shared, self._files.publish, tuning)
        self._troubles = Troubles()
        self._post_image = PostImageCalls(
            settings, self._senders, self._upstream, self.metrics, self._files, self._troubles
        )
        self._admin = self._admin_site(tuning)
        self._own = self._own_app()
        self._under_way: set[asyncio.Task[Any]] = set()
        self._is_ending = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request."""
        if scope["type"] != "http":
            return
        path: str = scope["path"]
        if path in _OWN or (path.startswith(f"{_OWN_PREFIX}/") and not is_of_files(path)):
            await self._own(scope, receive, send)
            return
        exchange = Exchange(scope, receive, send, self._settings.limits)
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._under_way.add(task)
        began = time.monotonic()
        try:
            await self._serve(exchange)
        finally:
            self._under_way.discard(task)
            if self._lines is not None:
                self._lines.write(line_of(exchange, time.monotonic() - began, self._settings.token_headers))

    @property
    def is_hosting(self) -> bool:
        """Tell whether a send is under way for which GeWe may yet fetch a file from here."""
        return self._files.is_lending

    def begin_end(self) -> None:
        """Tell load balancers that no more is to come."""
        self._is_ending = True

    async def aclose(self) -> None:
        """Wait for the calls that are out, and close everything."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=_LEAVING_SECONDS)
        await self._senders.aclose()
        await self._upstream.aclose()
        if self._admin is not None:
            await self._admin.aclose()
        await self.shared.aclose()

    async def _serve(self, exchange: Exchange) -> None:
        try:
            await self._serve_or_turn_away(exchange)
        except ClientLeftError:
            exchange.noted.status = exchange.noted.status or _CLIENT_LEFT
            await exchange.abort()

    async def _serve_or_turn_away(self, exchange: Exchange) -> None:
        try:
            await self._serve_or_raise(exchange)
        except ClientLeftError:
            raise
        except BodyTooLongError:
            limit = self._settings.limits.body_bytes
            await self._turn_away(exchange, answers.bad_request(413, f"The body has more than {limit} bytes."))
        except BodyTooSlowError:
            await self._turn_away(exchange, answers.bad_request(408, "The body did not come in time."))
        except asyncio.CancelledError:
            await self._turn_away(exchange, answers.no_answer(exchange.method, "The proxy was stopped meanwhile."))
        except Exception:  # noqa: BLE001 - never a 500, which would be sent again
            _log.exception("a request failed in a way that was not foreseen")
            why = "The proxy failed; the request may have been carried out. Its log tells more."
            await self._turn_away(exchange, answers.no_answer(exchange.method, why))

    async def _serve_or_raise(self, exchange: Exchange) -> None:
        problem = _problem_of(exchange)
        if problem is not None:
            await exchange.answer(problem)
            return
        if is_of_files(exchange.path):
            await self._file_calls.serve(exchange)
            return
        base_path = find_base_path(exchange.method, exchange.target)
        if base_path is not None:
            await self._post_image.serve(exchange, base_path)
        else:
            await pass_on(exchange, self._upstream, exchange.chunks())
        cache = exchange.noted.more.get("cache")
        if cache in {None, "bypass"}:
            self.metrics.passed.labels(cache or "other", str(exchange.noted.status)).inc()

    async def _turn_away(self, exchange: Exchange, answer: Answer) -> None:
        if exchange.has_started:
            await exchange.abort()
            return
        await exchange.answer(answer)

    def _own_app(self) -> Starlette:
        """Make what is not GeWe's: health checks at the root, all else under one prefix that GeWe does not use."""
        own = Starlette(
            routes=[
                Route("/healthz", self._ready),
                Route("/healthz/live", self._live),
                Route("/healthz/ready", self._ready),
                Route(f"{_OWN_PREFIX}/metrics", self._metrics),
            ]
        )
        if self._admin is not None:
            own.router.routes.append(Route(_OWN_PREFIX, lambda _: RedirectResponse(f"{_OWN_PREFIX}/")))
            self._admin.mount_to(own)
        return own

    def _admin_site(self, tuning: Tuning | None) -> AdminSite | None:
        if self._settings.admin_password is None:
            return None
        return AdminSite(_OWN_PREFIX, self._settings, self.shared, self._watch, self._troubles, tuning)

    async def _live(self, _: Request) -> Response:
        return JSONResponse({"live": True})

    async def _ready(self, _: Request) -> Response:
        """Say no where every send would be refused; a database that is away stands in none's way."""
        state = await self._watch.state()
        is_ready = state != "unusable" and not self._is_ending
        return JSONResponse({"live": True, "ready": is_ready, "database": state}, 200 if is_ready else 503)

    async def _metrics(self, _: Request) -> Response:
        counts = await self._watch.counts()
        for state in ("fresh", "expired", "retired"):
            self.metrics.entries.labels(state).set(float("nan") if counts is None else getattr(counts, state))
        return Response(self.metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _problem_of(exchange: Exchange) -> Answer | None:
    """Refuse what no bot sends to its base URL: absolute addresses, tunnels, two ways to frame one body."""
    if not exchange.target.startswith(b"/"):
        return answers.bad_request(400, "Only paths of the upstream are served.")
    if exchange.method in _NOT_PASSED:
        return answers.bad_request(405, f"{exchange.method} is not served.")
    if is_chunked(exchange.headers) and any(name == b"content-length" for name, _ in exchange.headers):
        return answers.bad_request(400, "A body has either a length or chunks.")
    return None
