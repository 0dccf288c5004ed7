"""An operator at the admin page, without a browser."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Any, Self

import httpx

from tests.faults.kit import PATIENCE

if TYPE_CHECKING:
    from tests.server.kit import Proxy

PASSWORD = "correct horse battery"  # noqa: S105 - of the tests
PREFIX = "/_gewe-cache/"


class Operator:
    """Has cookies, as a browser has."""

    def __init__(self, proxy: Proxy, **options: Any) -> None:
        self._origin = proxy.url
        self.client = httpx.Client(base_url=proxy.url + PREFIX, trust_env=False, timeout=PATIENCE, **options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def get(self, path: str = "", headers: dict[str, str] | None = None) -> httpx.Response:
        return self.client.get(self._address(path), headers=headers)

    def post(
        self, path: str, data: dict[str, str] | None = None, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        return self.client.post(self._address(path), data=data, headers=headers)

    def try_password(self, password: str, headers: dict[str, str] | None = None) -> httpx.Response:
        return self.post("login", {"password": password}, headers)

    def log_in(self) -> Self:
        assert self.try_password(PASSWORD).status_code == 303
        return self

    def _address(self, path: str) -> str:
        return self._origin + path if path.startswith("/") else path

    def read(self, path: str = "", status: int = 200, headers: dict[str, str] | None = None) -> str:
        """Give a page's text, as it is read: without its markup."""
        answer = self.get(path, headers)
        assert answer.status_code == status, answer.text
        return text_of(answer.text)

    def forget(self, entry_id: object, headers: dict[str, str] | None = None) -> httpx.Response:
        return self.post(f"_api/entries/row-action?name=forget&pk={entry_id}", headers=headers)


def text_of(page: str) -> str:
    """Give what a page says."""
    body = page.partition("<body")[2]
    without_scripts = re.sub(r"<script.*?</script>", " ", body, flags=re.DOTALL)
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", without_scripts)))
