"""What stands before every page of the operator's: the default is no.

* On loopback only names of this machine are answered, so that no other site's name leads here (DNS rebinding).
* What changes something is refused when a page of another site sends it (Sec-Fetch-Site, then Origin).
* Without a session there is the login page and its style sheets, and nothing else.
* Every answer forbids scripts, styles and frames that are not ours, and pages are kept by no cache.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse

from gewe_cache.log import Log
from gewe_cache.server.admin.words import choose_language
from gewe_cache.server.exchange import BodyTooLongError, BodyTooSlowError, ClientLeftError, Exchange

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from gewe_cache.server.admin.sessions import Sessions
    from gewe_cache.server.settings import Limits

COOKIE: Final = "gewe_cache_admin"

_log = Log("gewe_cache.server")

_SAFE_METHODS = frozenset({"GET", "HEAD"})
_LONGEST_BODY = 16_384
_POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'self'; font-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


class Guard:
    """ASGI middleware; see the top of this file."""

    def __init__(self, app: ASGIApp, sessions: Sessions, hosts: frozenset[str], limits: Limits) -> None:
        """Wrap an application; ``hosts``: names by which a proxy on this machine is asked for."""
        self._app = app
        self._sessions = sessions
        self._hosts = hosts
        self._limits = replace(limits, body_bytes=min(limits.body_bytes, _LONGEST_BODY))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or refuse it."""
        headers = Headers(scope=scope)
        nonce = secrets.token_urlsafe(16)
        session = cookie_parser(headers.get("cookie", "")).get(COOKIE)
        scope = {**scope, "scheme": _scheme(scope, headers), "headers": _with_language(scope, headers)}
        scope["state"] = {**scope["state"], "nonce": nonce, "session": session}
        exchange = Exchange(scope, receive, send, self._limits)
        answers = _Answers(exchange, nonce, is_page=not _path(scope).startswith("/static/"))
        try:
            refusal = self._refusal(scope, headers, has_session=self._sessions.is_valid(session))
            body = b"".join([chunk async for chunk in exchange.chunks()])
            await (refusal or self._app)(scope, _replay(body, receive), answers)
        except ClientLeftError:
            await exchange.abort()
        except (BodyTooLongError, BodyTooSlowError):
            await PlainTextResponse("The body is too long, or did not come in time.", 413)(scope, receive, answers)
        except Exception:  # noqa: BLE001 - a page that fails takes nothing else with it
            _log.exception("a page of the admin failed in a way that was not foreseen")
            await self._give_up(scope, receive, answers, exchange)

    async def _give_up(self, scope: Scope, receive: Receive, answers: _Answers, exchange: Exchange) -> None:
        if exchange.has_started:
            await exchange.abort()
        else:
            await PlainTextResponse("This page failed. The server's log tells more.", 500)(scope, receive, answers)

    def _refusal(self, scope: Scope, headers: Headers, *, has_session: bool) -> ASGIApp | None:
        if not self._is_known_host(scope, headers):
            text = "This name is not known here. Start gewe-cache serve with --admin-host NAME to allow it."
            return PlainTextResponse(text, 421)
        if scope["method"] not in _SAFE_METHODS and _is_from_elsewhere(headers):
            return PlainTextResponse("This request came from another site; nothing was changed.", 403)
        root, path = scope.get("root_path", ""), _path(scope)
        if has_session or path == "/login" or path.startswith("/static/"):
            return None
        if scope["method"] not in _SAFE_METHODS:
            return PlainTextResponse("Log in first; nothing was changed.", 401)
        query = scope["query_string"].decode("latin-1")
        wanted = scope["path"] + ("?" + query if query else "")
        return RedirectResponse(f"{root}/login" + ("" if path == "/" else f"?next={quote(wanted, safe='')}"), 303)

    def _is_known_host(self, scope: Scope, headers: Headers) -> bool:
        """Tell whether the name asked for may lead here; names are looked at on loopback alone."""
        if not _is_loopback((scope.get("server") or ("",))[0]):
            return True
        host = _name_of(headers.get("host", ""))
        return host in self._hosts or host == "localhost" or host.endswith(".localhost") or _is_address(host)


class _Answers:
    """Sends answers with the headers that each of them has to have, to clients that read them in time."""

    def __init__(self, exchange: Exchange, nonce: str, *, is_page: bool) -> None:
        self._exchange = exchange
        self._nonce = nonce
        self._is_page = is_page

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._exchange.start(message["status"], self._with_ours(message["headers"]))
        elif message["type"] == "http.response.body":
            await self._exchange.write(message.get("body", b""), is_last=not message.get("more_body", False))

    def _with_ours(self, given: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        headers = MutableHeaders(raw=[*given])
        headers["content-security-policy"] = _POLICY.format(nonce=self._nonce)
        headers["cache-control"] = "no-store" if self._is_page else "max-age=3600"
        for name, value in _HEADERS.items():
            headers[name] = value
        return headers.raw


def _path(scope: Scope) -> str:
    """Give the path below the prefix."""
    return str(scope["path"]).removeprefix(scope.get("root_path", ""))


def _scheme(scope: Scope, headers: Headers) -> str:
    """Give the scheme that the browser sees. Whoever lies about it changes only what is sent to himself."""
    return "https" if headers.get("x-forwarded-proto") == "https" else str(scope["scheme"])


def _with_language(scope: Scope, headers: Headers) -> list[tuple[bytes, bytes]]:
    """Leave one language of those accepted: starlette-admin knows only a header that names one exactly."""
    language = choose_language(headers.get("accept-language", ""))
    others = [(name, value) for name, value in scope["headers"] if name != b"accept-language"]
    return [*others, (b"accept-language", language.encode("ascii"))]


def _is_from_elsewhere(headers: Headers) -> bool:
    """Tell whether another site's page sends this. What is no browser names neither its site nor its origin."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in {"same-origin", "none"}
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != headers.get("host", "")


def _name_of(host: str) -> str:
    """Give a Host header without its port, or "" where it is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _replay(body: bytes, receive: Receive) -> Callable[[], Any]:
    rest = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return rest.pop() if rest else await receive()

    return replayed
