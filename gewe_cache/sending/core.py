"""What both drivers hold: the parts of a sender, its store, its checks, and its end."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gewe_cache.gewe.wire import Request
from gewe_cache.image import Image, as_image
from gewe_cache.keys import host_of
from gewe_cache.sending import flow
from gewe_cache.sending.background import Background
from gewe_cache.sending.counters import Counters
from gewe_cache.sending.flight import Flights
from gewe_cache.sending.front import Front
from gewe_cache.sending.lanes import lanes_at
from gewe_cache.sending.parts import Parts
from gewe_cache.settings import Settings, check_name
from gewe_cache.store.guard import Store

if TYPE_CHECKING:
    from gewe_cache.image import SentImage
    from gewe_cache.sending.publishing import AsyncPublisher
    from gewe_cache.sending.steps import Flow

_LEFT_BY_FORKS: list[Any] = []


@dataclass(frozen=True, slots=True)
class Core:
    """Everything of a sender that is made anew in a forked process."""

    settings: Settings
    parts: Parts
    store: Store
    background: Background
    process: int
    is_store_shared: bool = False

    @classmethod
    def make(cls, settings: Settings, shared_store: Store | None = None, publish: AsyncPublisher | None = None) -> Core:
        """Make the parts; connects to nothing yet. A store that is shared is closed by its owner.

        Raises:
            ValueError, StoreError: the database's URL or driver is unusable.
        """
        tuning = settings.tuning
        counters = Counters(settings.scope)
        store = shared_store or Store(settings.database, tuning, on_failure=lambda: counters.count(store_failures=1))
        background = Background(store, counters, tuning)
        parts = Parts(
            settings=settings,
            lanes=lanes_at(host_of(settings.base_url)),
            flights=Flights(),
            front=Front(tuning.front_entries, tuning.front_trust),
            counters=counters,
            background=background,
            publish=publish,
        )
        return cls(settings, parts, store, background, os.getpid(), is_store_shared=shared_store is not None)

    @property
    def is_of_this_process(self) -> bool:
        """Tell whether this process made it, or a parent of which it is a fork."""
        return self.process == os.getpid()

    def send(self, to_wxid: str, image: str | Image, app_id: str | None, *, refresh: bool) -> Flow[SentImage]:
        """Check what the caller passed, and begin the flow of a send."""
        device = app_id if app_id is not None else self.settings.app_id
        if device is None:
            msg = "app_id: pass the device's id to the sender or to send_image (GEWE_APP_ID). Nothing was sent."
            raise ValueError(msg)
        return flow.send(
            self.parts,
            check_name("app_id", device),
            check_name("to_wxid", to_wxid),
            as_image(image),
            refresh=refresh,
        )

    def headers(self) -> dict[str, str]:
        """Give the headers of every call."""
        return {"Content-Type": "application/json", self.settings.token_header: self.settings.token}

    def url_of(self, request: Request) -> str:
        """Give the address of a call."""
        return f"{self.settings.base_url}{request.path}"

    def shut_down(self) -> None:
        """Write the counters and close the database. Blocks; safe to call at interpreter exit."""
        if self.is_of_this_process:
            self.background.stop()
            if not self.is_store_shared:
                self.store.close()

    def leave_to_parent(self, *others: object) -> None:
        """Keep what a fork inherited from being closed here: its connections are the parent's."""
        _LEFT_BY_FORKS.append((self, *others))
