"""The admin page put together, and mounted beside the proxy's own routes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from starlette.middleware import Middleware
from starlette_admin.base import BaseAdmin
from starlette_admin.i18n import I18nConfig
from starlette_admin.security.csrf import CSRFMiddleware

from gewe_cache import __version__
from gewe_cache.server.admin.asking import Asking
from gewe_cache.server.admin.broadcasts import BroadcastView
from gewe_cache.server.admin.entries import EntryView
from gewe_cache.server.admin.guard import Guard
from gewe_cache.server.admin.login import PasswordLogin
from gewe_cache.server.admin.nonces import use_nonces
from gewe_cache.server.admin.overview import Overview
from gewe_cache.server.admin.relative import use_relative_addresses
from gewe_cache.server.admin.sessions import Sessions
from gewe_cache.server.admin.words import LANGUAGES, say, say_age
from gewe_cache.settings import find_ttl, utc_now
from gewe_cache.text import human_size, readable_url, without_unseen

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from gewe_cache.sending.shared import Shared
    from gewe_cache.server.database_watch import DatabaseWatch
    from gewe_cache.server.settings import ServerSettings
    from gewe_cache.server.troubles import Troubles
    from gewe_cache.settings import Tuning

_STATIC: Final = Path(__file__).parent / "static"
# All that is reachable. starlette-admin has more (create, edit, import, files …), and may get more yet.
_ROUTES: Final = frozenset({"index", "list", "detail", "action", "row-action", "login", "logout", "static"})


class AdminSite:
    """The operator's page. Belongs to one event loop."""

    def __init__(
        self,
        prefix: str,
        settings: ServerSettings,
        shared: Shared,
        watch: DatabaseWatch,
        troubles: Troubles,
        tuning: Tuning | None = None,
    ) -> None:
        """Put it together; connects to nothing yet.

        Raises:
            ValueError: there is no password.
        """
        if settings.admin_password is None:
            msg = "admin_password: without one there is no admin page."
            raise ValueError(msg)
        self._asking = Asking(shared, settings.database, tuning)
        sessions = Sessions(settings.admin_password)
        self._admin = BaseAdmin(
            title="gewe_cache",
            base_url=prefix,
            templates_dir=str(Path(__file__).parent / "templates"),
            static_dir=str(_STATIC),
            index_view=Overview(self._asking, watch, troubles),
            auth_provider=PasswordLogin(sessions),
            secret_key=sessions.secret,
            i18n_config=I18nConfig(language_cookie_name="gewe_cache_language", language_switcher=[*LANGUAGES]),
            timezone_config=None,
        )
        self._admin.add_view(EntryView(self._asking, watch, find_ttl(settings.ttl), settings.ignore_query))
        self._admin.add_view(BroadcastView(self._asking))
        self._prepare_templates()
        guard = Middleware(Guard, sessions=sessions, hosts=settings.admin_hosts, limits=settings.limits)
        csrf: object = CSRFMiddleware  # the guard does it, without a cookie
        ours = [each for each in self._admin.middlewares if each.cls is not csrf]
        self._admin.middlewares = [guard, *ours]
        self._admin.routes = [each for each in self._admin.routes if getattr(each, "name", None) in _ROUTES]

    def mount_to(self, app: Starlette) -> None:
        """Serve it under its prefix, where the application has no route of its own."""
        self._admin.mount_to(app)

    async def aclose(self) -> None:
        """Close its connections."""
        await self._asking.aclose()

    def _prepare_templates(self) -> None:
        environment = self._admin.templates.env
        use_nonces(environment)
        environment.finalize = _shown
        environment.filters["readable_url"] = readable_url
        use_relative_addresses(environment)
        names: dict[str, Any] = environment.globals
        names.update(say=say, say_age=say_age, human_size=human_size, utc_now=utc_now, version=__version__)


def _shown(value: object) -> object:
    """Show plain text as it is meant for eyes; what is markup already was shown so."""
    return without_unseen(value) if type(value) is str else value
