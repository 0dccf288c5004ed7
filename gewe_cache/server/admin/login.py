"""Logging in and out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from starlette.responses import RedirectResponse
from starlette.routing import Route
from starlette_admin.auth import AdminUser, BaseAuthProvider

from gewe_cache.log import Log
from gewe_cache.server.admin.attempts import Attempts
from gewe_cache.server.admin.guard import COOKIE
from gewe_cache.server.admin.sessions import LIFETIME
from gewe_cache.server.admin.words import later, say

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.templating import Jinja2Templates

    from gewe_cache.server.admin.sessions import Sessions

_log = Log("gewe_cache.server")

_USER: Final = AdminUser(later("Log out"))


class PasswordLogin(BaseAuthProvider):
    """One password for all; what is tried too often waits."""

    def __init__(self, sessions: Sessions) -> None:
        """Take who is logged in."""
        super().__init__()
        self._sessions = sessions
        self._attempts = Attempts()
        self._templates: Jinja2Templates | None = None

    async def authenticate(self, request: Request) -> AdminUser | None:
        """Look once more at what the guard has looked at."""
        return _USER if self._sessions.is_valid(request.state.session) else None

    def get_routes(self, templates: Jinja2Templates) -> list[Route]:
        """Give the routes, by the names that starlette-admin looks for."""
        self._templates = templates
        return [
            Route("/login", self._show, name="login"),
            Route("/login", self._log_in, methods=["POST"], name="login"),
            Route("/logout", self._log_out, methods=["POST"], name="logout"),
        ]

    async def _show(self, request: Request) -> Response:
        if self._sessions.is_valid(request.state.session):
            return RedirectResponse(_wanted(request), 303)
        return self._page(request, "", 200)

    async def _log_in(self, request: Request) -> Response:
        address = request.client.host if request.client else ""
        form = await request.form()
        wait = self._attempts.seconds_to_wait(address)
        if wait:
            minutes = math.ceil(wait / 60)
            problem = say("Too many wrong passwords. Wait {minutes} min, then try again.", minutes=minutes)
            return self._page(request, problem, 429, {"retry-after": str(math.ceil(wait))})
        if not self._sessions.is_password(str(form.get("password", ""))):
            self._attempts.note_failure(address)
            _log.warning("a wrong password for the admin page, from %s", address)
            return self._page(request, say("The password is wrong."), 403)
        self._attempts.note_success(address)
        response = RedirectResponse(_wanted(request), 303)
        response.set_cookie(
            COOKIE,
            self._sessions.begin(),
            max_age=int(LIFETIME.total_seconds()),
            path=_root(request),
            secure=request.url.scheme == "https",
            httponly=True,
            samesite="lax",
        )
        return response

    async def _log_out(self, request: Request) -> Response:
        self._sessions.end(request.state.session)
        response = RedirectResponse(f"{_root(request)}login", 303)
        response.delete_cookie(COOKIE, path=_root(request))
        return response

    def _page(self, request: Request, problem: str, status: int, headers: dict[str, str] | None = None) -> Response:
        assert self._templates is not None  # noqa: S101 - the routes are made with it
        context = {"title": say("Log in"), "problem": problem, "flashed_messages": []}
        return self._templates.TemplateResponse(request, "login.html", context, status, headers)


def _root(request: Request) -> str:
    root: str = request.scope["root_path"]
    return f"{root}/"


def _wanted(request: Request) -> str:
    """Give the page that was asked for before the login, if it is one of ours."""
    root, wanted = _root(request), request.query_params.get("next", "")
    return wanted if wanted.startswith(root) and "\\" not in wanted and wanted.isprintable() else root
