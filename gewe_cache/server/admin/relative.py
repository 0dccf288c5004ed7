"""Addresses without scheme and host.

starlette-admin writes absolute ones, from the request's Host and scheme, which behind a proxy are often not
those of the browser. Its templates get these in their place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit, urlunsplit

from jinja2 import pass_context

if TYPE_CHECKING:
    from collections.abc import Callable

    from jinja2 import Environment
    from jinja2.runtime import Context

_WRITERS: Final = (
    "static_url",
    "list_url",
    "detail_url",
    "edit_url",
    "create_url",
    "import_url",
    "back_url",
    "breadcrumb_list_url",
)


def use_relative_addresses(environment: Environment) -> None:
    """Replace every function of the templates that writes an address."""
    names: dict[str, Any] = environment.globals
    for name in _WRITERS:
        names[name] = _relative(names[name])
    names["icon_css_links"] = _all_relative(names["icon_css_links"])
    names["url_for"] = _url_for


def _relative(write: Callable[..., object]) -> Callable[..., str]:
    return lambda *args, **options: without_host(write(*args, **options))


def _all_relative(write: Callable[..., list[str]]) -> Callable[..., list[str]]:
    return lambda *args: [without_host(each) for each in write(*args)]


@pass_context
def _url_for(context: Context, name: str, /, **parameters: object) -> str:
    return without_host(context["request"].url_for(name, **parameters))


def without_host(address: object) -> str:
    """Give path and query of an address."""
    parts = urlsplit(str(address))
    return urlunsplit(("", "", parts.path, parts.query, ""))
