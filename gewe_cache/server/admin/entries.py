"""The cache table: read along an index page by page, an entry with its history, and forgetting it."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, get_args

from starlette.responses import RedirectResponse
from starlette_admin.actions import row_action
from starlette_admin.flash import flash

from gewe_cache.errors import InvalidImage
from gewe_cache.image import Image
from gewe_cache.server.admin.tables import PAGE_SIZE, ReadOnlyView, cell, read_id
from gewe_cache.server.admin.words import later, say
from gewe_cache.settings import check_name
from gewe_cache.store import tending
from gewe_cache.store.listing import (
    SORTS,
    STATES,
    Filters,
    ListedEntry,
    ListQuery,
    Sort,
    State,
    entries_by_id,
    find_ids,
    keys_of_entry,
    list_entries,
    token_of,
)
from gewe_cache.text import mask_key, one_line

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from sqlalchemy import Connection
    from starlette.datastructures import QueryParams
    from starlette.requests import Request
    from starlette.responses import Response

    from gewe_cache.server.admin.asking import Asking
    from gewe_cache.server.database_watch import DatabaseWatch

_MD5 = re.compile(r"[0-9a-fA-F]{32}")
_BACK = "-"
_LONGEST_SEARCH = 1000
_MOST_OTHERS = 20


@dataclass(frozen=True, slots=True)
class EntryPage:
    """A page of entries, and the addresses' ``page`` of those beside it, or None at an end."""

    entries: tuple[ListedEntry, ...]
    previous: str | None
    next: str | None


@dataclass(frozen=True, slots=True)
class EntryDetails:
    """All that is known of an entry. ``uploads``: every entry of its image in its scope, this one too."""

    entry: ListedEntry
    keys: tuple[tuple[str, str], ...]
    uploads: tuple[ListedEntry, ...]

    @property
    def id(self) -> int:
        """The entry's id, as starlette-admin asks for it."""
        return self.entry.id


def read_page(connection: Connection, query: ListQuery, *, is_back: bool) -> EntryPage:
    """Read a page; backwards it is the one that ends before ``query.after``."""
    if not is_back:
        page = list_entries(connection, query)
        shown = page.entries
        has_previous, has_next = query.after is not None, page.next_token is not None
    else:
        page = list_entries(connection, replace(query, descending=not query.descending))
        shown = tuple(reversed(page.entries))
        has_previous, has_next = page.next_token is not None, True
    back = replace(query, descending=not query.descending)
    return EntryPage(
        tuple(_masked(entry) for entry in shown),
        _BACK + token_of(back, shown[0]) if shown and has_previous else None,
        token_of(query, shown[-1]) if shown and has_next else None,
    )


def read_details(
    connection: Connection, entry_id: int, filters: Filters, ignore_query: frozenset[str]
) -> EntryDetails | None:
    """Read an entry, its keys, and what else was uploaded of its image."""
    found = entries_by_id(connection, [entry_id], filters)
    if not found:
        return None
    (entry,) = found
    ids = {entry_id}
    for image in _images_of(entry):
        ids.update(find_ids(connection, image, entry.scope, ignore_query))
    latest = {entry_id, *sorted(ids, reverse=True)[:_MOST_OTHERS]}
    others = entries_by_id(connection, [*latest], filters)
    keys = tuple(keys_of_entry(connection, entry_id))
    return EntryDetails(_masked(entry), keys, tuple(_masked(each) for each in others))


class EntryView(ReadOnlyView):
    """The cache, as starlette-admin shows a table."""

    key = "entries"
    menu_label = later("Cache")
    display_name = later("Image")
    pk_attr = "id"
    list_template = "entries.html"
    detail_template = "entry.html"
    row_actions = ("forget",)
    sortable_fields = SORTS
    fields_default_sort = (("uploaded_at", True),)

    def __init__(self, asking: Asking, watch: DatabaseWatch, ttl: timedelta, ignore_query: frozenset[str]) -> None:
        """Take what the entries are read with."""
        self.fields = [
            cell("image", "Image"),
            cell("scope", "Scope"),
            cell("size", "Size"),
            cell("uploaded_at", "Uploaded"),
            cell("left", "Left"),
            cell("forwards", "Forwards"),
            cell("last_used_at", "Last used"),
        ]
        super().__init__()
        self._asking = asking
        self._watch = watch
        self._ttl = ttl
        self._ignore_query = ignore_query

    async def find_all(
        self,
        request: Request,
        skip: int = 0,  # noqa: ARG002 - a page begins at a key, not after so many rows
        limit: int = PAGE_SIZE,
        q: str | None = None,
        sorts: Sequence[tuple[str, str]] | None = None,
        filters: Any = None,  # noqa: ANN401, ARG002 - starlette-admin's own; ours are in the address
    ) -> Sequence[ListedEntry]:
        """Give the entries of the page that the address names; an address that makes no sense means the first."""
        wanted = _filters(request.query_params, q, self._ttl)
        sort, direction = next(((name, way) for name, way in sorts or () if name in SORTS), ("uploaded_at", "desc"))
        page = request.query_params.get("page", "")
        query = ListQuery(wanted, sort=_sort(sort), descending=direction == "desc", limit=limit)
        found = await self._asking.ask_for_page(partial(_read_from, query=query, page=page))
        request.state.page = found
        request.state.filters = wanted
        request.state.counts = await self._watch.counts()
        return found.entries

    async def find_by_pk(self, request: Request, pk: Any) -> EntryDetails | None:  # noqa: ANN401, ARG002
        """Give an entry by its id, or None."""
        entry_id = read_id(pk)
        read = partial(read_details, entry_id=entry_id, filters=Filters(ttl=self._ttl), ignore_query=self._ignore_query)
        return await self._asking.ask_for_page(read)

    @row_action(
        name="forget",
        text=later("Forget"),
        confirmation=later("Forget this entry? Its keys go with it, and the next send of the image uploads it."),
        submit_btn_text=later("Forget"),
        submit_btn_class="btn btn-danger",
        action_btn_class="btn btn-outline-danger",
        icon_class="fa-solid fa-trash",
        custom_response=True,
        exclude_from_list=True,
    )
    async def forget(self, request: Request, pk: Any) -> Response:  # noqa: ANN401 - as starlette-admin passes it
        """Remove an entry with its keys, and go back to the table."""
        remove = partial(tending.remove_entries, entry_ids=[read_id(pk)])
        if await self._asking.ask_for_page(remove, write=True):
            told = say("Entry {id} is forgotten: the next send of the image uploads it.", id=pk)
            flash(request, told, "success")
        else:
            flash(request, say("There is no such entry any more."), "warning")
        return RedirectResponse(f"{request.scope['root_path']}/entries/list", 303)


def _read_from(connection: Connection, query: ListQuery, page: str) -> EntryPage:
    is_back = page.startswith(_BACK)
    try:
        return read_page(connection, replace(query, after=page.removeprefix(_BACK) or None), is_back=is_back)
    except ValueError:  # a token of another order
        return read_page(connection, query, is_back=False)


def _filters(asked: QueryParams, q: str | None, ttl: timedelta) -> Filters:
    """Read the filters of an address; what no filter can be is left out."""
    sought = one_line(q, _LONGEST_SEARCH)
    is_md5 = _MD5.fullmatch(sought) is not None
    return Filters(
        ttl=ttl,
        url_part=None if is_md5 else sought or None,
        md5=sought.lower() if is_md5 else None,
        scope=_scope(asked.get("scope", "").strip()),
        state=_state(asked.get("state", "")),
    )


def _scope(name: str) -> str | None:
    try:
        return check_name("scope", name)
    except ValueError:
        return None


def _state(name: str) -> State | None:
    return next((state for state in STATES if state == name), None)


def _sort(name: str) -> Sort:
    return next(sort for sort in get_args(Sort) if sort == name)


def _images_of(entry: ListedEntry) -> list[Image]:
    """Give the names of an entry's image; a row may hold what no send would accept."""
    images = []
    for url, md5 in ((entry.url, None), (None, entry.md5)):
        with suppress(InvalidImage):
            images.append(Image(url=url, md5=md5))
    return images


def _masked(entry: ListedEntry) -> ListedEntry:
    """Give an entry whose key no template can show."""
    return replace(entry, aes_key=mask_key(entry.aes_key))
