"""What our tables have in common: starlette-admin shows them, and changes nothing by itself."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NoReturn

from starlette_admin.fields import BaseField
from starlette_admin.views import BaseModelView

from gewe_cache.server.admin.words import later

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

PAGE_SIZE: Final = 50

_ID = re.compile(r"[0-9]{1,18}", re.ASCII)
_NO_ID = -1


class ReadOnlyView(BaseModelView):
    """A table that is looked at, and paged by key."""

    pk_attr = "id"
    page_size = PAGE_SIZE
    page_size_options = (PAGE_SIZE,)
    column_visibility = False
    exporters = ()
    importers = ()
    actions = ()

    async def count(self, request: Request, q: str | None = None, filters: Any = None) -> int:  # noqa: ANN401, ARG002
        """Count nothing: with a million rows that takes longer than reading the page."""
        return 0

    async def find_by_pks(self, request: Request, pks: list[Any]) -> Sequence[Any]:
        """Give entries by their ids."""
        found = [await self.find_by_pk(request, pk) for pk in pks]
        return [each for each in found if each is not None]

    def can_create(self, request: Request) -> bool:  # noqa: ARG002
        """Say no: entries come from uploads."""
        return False

    def can_edit(self, request: Request) -> bool:  # noqa: ARG002
        """Say no: an entry is what GeWe gave."""
        return False

    def can_delete(self, request: Request) -> bool:  # noqa: ARG002
        """Say no: ``forget`` does it."""
        return False

    def can_export(self, request: Request) -> bool:  # noqa: ARG002
        """Say no: ``gewe-cache cache list --json`` does it."""
        return False

    def can_import(self, request: Request) -> bool:  # noqa: ARG002
        """Say no."""
        return False

    async def create(self, request: Request, data: dict[str, Any]) -> NoReturn:
        """Never called."""
        raise NotImplementedError

    async def edit(self, request: Request, pk: Any, data: dict[str, Any]) -> NoReturn:  # noqa: ANN401
        """Never called."""
        raise NotImplementedError

    async def delete(self, request: Request, pks: list[Any]) -> NoReturn:
        """Never called."""
        raise NotImplementedError


def cell(name: str, label: str) -> BaseField:
    """Make a column whose template is given the whole entry."""
    return BaseField(name, later(label), getter=lambda _, entry: entry, list_template=f"cells/{name}.html")


def read_id(text: object) -> int:
    """Read an id of an address; what is none gives one that nothing has."""
    return int(str(text)) if _ID.fullmatch(str(text)) else _NO_ID
