"""A world for the flow without threads: senders whose steps are performed one by one, in any order.

Two processes, each with a token of its own, share a scope in one database, a real SQLite in memory; GeWe
answers what the test says; the clock is the test's. ``Send`` performs the steps of one flow as the drivers do,
and remembers what became of its calls.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any

from gewe_cache import Image
from gewe_cache.gewe.wire import Reply, Unknown, Unreached
from gewe_cache.sending import flow
from gewe_cache.sending.counters import Counters
from gewe_cache.sending.flight import Flights
from gewe_cache.sending.front import Front
from gewe_cache.sending.lanes import Lanes
from gewe_cache.sending.parts import AWAY, Parts
from gewe_cache.sending.steps import Abandoned, Ask, Demand, Pause, Post, Wait
from gewe_cache.settings import Tuning, make_settings
from gewe_cache.store import leases, tables
from gewe_cache.store.guard import Store

if TYPE_CHECKING:
    from gewe_cache.sending.steps import Step
    from gewe_cache.settings import Settings

_START = datetime(2026, 1, 2, tzinfo=UTC)
_FILE_ID = re.compile(r'cdnmidimgurl="([0-9a-f]+)"')

REFUSALS: dict[str, dict[str, Any]] = {
    "refused": {"ret": 500, "msg": "失败", "data": {"code": "-9", "msg": "系统繁忙"}},
    "image refused": {"ret": 500, "msg": "失败", "data": {"msg": "图片格式错误"}},
    "token refused": {"ret": 401, "msg": "认证失败"},
    "device refused": {"ret": 500, "msg": "失败", "data": {"msg": "微信已离线"}},
    "recipient refused": {"ret": 500, "msg": "失败", "data": {"code": "-219"}},
    "too fast": {"ret": 500, "msg": "发送频率过快"},
}
UNKNOWN = ("reset", "failed in name", "interrupted")
OUTCOMES = ("accepted", "accepted without cdn", "unreached", *UNKNOWN, *REFUSALS)
_WITHOUT_REPLY: dict[str, Unreached | Unknown | None] = {
    "unreached": Unreached("ConnectError"),
    "reset": Unknown("ReadError"),
    "interrupted": None,
}
OF_THE_SENDER = ("device refused", "recipient refused", "too fast")


class Clock:
    """Stands in for ``datetime`` and for ``time`` where the code reads the time."""

    def __init__(self) -> None:
        self.moment = _START
        self.elapsed = 0.0

    def now(self, zone: tzinfo | None = None) -> datetime:
        """Give the time of day, which may be set back."""
        return self.moment.astimezone(zone)

    def monotonic(self) -> float:
        """Give the time that only goes on."""
        return self.elapsed

    def move(self, seconds: float) -> None:
        """Let time go by, or set the clock back."""
        self.moment += timedelta(seconds=seconds)
        self.elapsed += max(0.0, seconds)


class Renewals:
    """Stands in for the background thread: which leases a process renews."""

    def __init__(self) -> None:
        self.held: set[str] = set()

    def hold(self, owner: str) -> None:
        """Renew this one."""
        self.held.add(owner)

    def settle(self, owner: str) -> None:
        """It is about to end by itself."""

    def drop(self, owner: str) -> None:
        """Renew it no longer."""
        self.held.discard(owner)


@dataclass
class Upload:
    """An upload that GeWe was given: when, by which process, and whether others can know of it."""

    at: datetime
    process: int
    known: bool


@dataclass(eq=False)
class Send:
    """One flow under way: the step it waits for, and what became of its calls so far."""

    world: World
    number: int
    process: int
    app_id: str
    image: int
    refresh: bool
    outcomes: list[str] = field(default_factory=list)
    is_abandoned: bool = False
    is_over: bool = False
    result: Any = None
    error: BaseException | None = None
    fresh_when_asked: bool = False
    refused_file: str | None = None
    new_file: str | None = None

    def __post_init__(self) -> None:
        """Begin the flow."""
        url = self.world.url_of(self.image)
        parts = self.world.parts[self.process]
        self.steps = flow.send(parts, self.app_id, f"wxid_{self.number}", Image(url), refresh=self.refresh)
        self.pending: Step | None = None
        self._go_on(lambda: next(self.steps))

    @property
    def can_go_on(self) -> bool:
        """Tell whether its step can be performed now."""
        return not self.is_over and not (isinstance(self.pending, Wait) and not self.pending.future.done())

    @property
    def is_uploading(self) -> bool:
        """Tell whether its upload is out."""
        return isinstance(self.pending, Post) and self.pending.request.route == "upload"

    def perform(self, outcome: str) -> None:
        """Perform the pending step; ``outcome`` is what becomes of it where it is a call."""
        match self.pending:
            case Post():
                self._call(self.pending, outcome)
            case Ask():
                result = self.world.ask(self, self.pending)
                self._go_on(lambda: self.steps.send(result))
            case Wait(future):
                self._go_on(lambda: self.steps.send(future.result(0)))
            case Pause(seconds):
                self.world.clock.move(seconds)
                self._go_on(lambda: self.steps.send(None))
            case _:
                msg = f"no send does this: {self.pending}"
                raise AssertionError(msg)

    def time_out(self) -> None:
        """Let a wait that has an end come to it."""
        assert isinstance(self.pending, Wait)
        otherwise = self.pending.otherwise
        self._go_on(lambda: self.steps.send(otherwise))

    def abandon(self) -> None:
        """Let its caller leave, as the async driver does it: what has begun is performed to its end."""
        self.is_abandoned = True
        if isinstance(self.pending, Wait):
            self.pending.future.cancel()
        self._skip()

    def dispose(self) -> None:
        """Take the flow out of the world, whatever it holds: a test has failed."""
        with suppress(BaseException):
            self.steps.throw(Abandoned())
            while True:
                self.steps.send(None)

    def _call(self, step: Post, outcome: str) -> None:
        route = step.request.route
        if route == "forward" and outcome == "accepted without cdn":
            outcome = "accepted"
        self.outcomes.append(f"{route} {outcome}")
        posted: Reply | Unknown | Unreached | None = self._answer(route, outcome)
        if route == "forward" and outcome in REFUSALS:
            found = _FILE_ID.search(json.loads(step.request.body)["xml"])
            assert found is not None
            self.refused_file = found[1]
        if route == "upload" and outcome not in {"unreached", *OF_THE_SENDER}:
            self.world.uploads[self.image].append(Upload(self.world.clock.moment, self.process, known=False))
        if posted is None:
            self._go_on(lambda: self.steps.throw(KeyboardInterrupt()))
        else:
            self._go_on(lambda: self.steps.send(posted))

    def _answer(self, route: str, outcome: str) -> Reply | Unknown | Unreached | None:
        if outcome in REFUSALS:
            return _reply(REFUSALS[outcome])
        if outcome in _WITHOUT_REPLY:
            return _WITHOUT_REPLY[outcome]
        if outcome == "failed in name":
            return _reply({"ret": 200, "msg": "失败"})
        data: dict[str, Any] = {"newMsgId": 1}
        if (route, outcome) == ("upload", "accepted"):
            self.new_file = self.world.new_file()
            self.world.uploaded_at[self.new_file] = self.world.clock.moment
            data |= {"aesKey": "a" * 32, "fileId": self.new_file, "md5": f"{self.image:032x}", "length": 5}
        return _reply({"ret": 200, "data": data})

    def _go_on(self, advance: Any) -> None:
        try:
            self.pending = advance()
        except StopIteration as finished:
            self.is_over, self.pending, self.result = True, None, finished.value
        except BaseException as error:  # noqa: BLE001 - the test judges what may be raised
            self.is_over, self.pending, self.error = True, None, error
        else:
            self.world.check_begun(self)
            if self.is_abandoned:
                self._skip(has_begun=False)

    def _skip(self, *, has_begun: bool = True) -> None:
        """Refuse a step that an abandoned flow would begin, or waits in."""
        if isinstance(self.pending, Wait | Pause) or (isinstance(self.pending, Post) and not has_begun):
            self._go_on(lambda: self.steps.throw(Abandoned()))


class World:
    """Everything there is: a database, two processes, GeWe's past, the time."""

    def __init__(self, store: Store, clock: Clock) -> None:
        """Empty the database."""
        self.store = store
        self.clock = clock
        self.parts = [_make_parts(self._settings(token)) for token in ("token", "another")]
        self.is_away = False
        self.was_shaken = False
        self.saved: dict[int, str] = {}
        self.uploaded_at: dict[str, datetime] = {}
        self.uploads: dict[int, list[Upload]] = {0: [], 1: []}
        self.sends: list[Send] = []
        self._files = 0
        with store.database.writer.begin() as connection:
            for table in reversed(tables.metadata.sorted_tables):
                connection.execute(table.delete())

    @staticmethod
    def _settings(token: str) -> Settings:
        return make_settings(
            token,
            None,
            base_url="http://127.0.0.1:1",
            token_header="X-GEWE-TOKEN",  # noqa: S106 - the header's name
            database="sqlite://",
            scope="shared",
            ttl=timedelta(days=3),
            timeout=None,
            ignore_query=(),
            tuning=Tuning(),
        )

    def url_of(self, image: int) -> str:
        """Give an image's URL."""
        return f"http://example.com/{image}.png"

    def new_file(self) -> str:
        """Give a file id that GeWe has not given out yet."""
        self._files += 1
        return f"30{self._files:08x}"

    @property
    def under_way(self) -> list[Send]:
        """The sends that are not over."""
        return [send for send in self.sends if not send.is_over]

    def start(self, process: int, device: int, image: int, *, refresh: bool) -> None:
        """Begin a send."""
        self.sends.append(Send(self, len(self.sends), process, f"wx_{device}", image, refresh))

    def is_fresh(self, image: int) -> bool:
        """Tell whether the database has a fresh entry of an image, by what was saved."""
        file = self.saved.get(image)
        if file is None:
            return False
        age = self.clock.moment - self.uploaded_at[file]
        return -timedelta(minutes=5) <= age < timedelta(days=3)

    def ask(self, send: Send, step: Ask) -> Any:
        """Perform a step of the store, and hold what it gives against what was saved."""
        if self.is_away:
            self.was_shaken = True
            send.fresh_when_asked = False
            return step.otherwise
        result = self.store.attempt(step.operation, AWAY, write=step.write, purpose=step.purpose)
        assert result is not AWAY, "the database failed"
        if step.purpose == "find":
            assert getattr(result, "file_id", None) == self.saved.get(send.image)
            send.fresh_when_asked = self.is_fresh(send.image)
        if step.purpose == "save":
            assert send.new_file is not None
            self.saved[send.image] = send.new_file
            self.uploads[send.image][-1].known = True
        return result

    def forget(self, process: int, image: int) -> None:
        """Have the user forget an image; done at once, where the database is there."""
        steps = flow.forget(self.parts[process], Image(self.url_of(image)))
        step = next(steps)
        assert isinstance(step, Demand)
        self.saved.pop(image, None)
        for upload in self.uploads[image]:
            upload.known = False
        try:
            steps.send(self.store.demand(step.operation, write=step.write))
        except StopIteration:
            return

    def move_clock(self, seconds: float, *, renews: bool) -> None:
        """Let time go by, with the leases that are held renewed all the while or not at all."""
        self.clock.move(seconds)
        owners = sorted(owner for parts in self.parts for owner in parts.background.held)  # type: ignore[attr-defined]
        if not owners:
            return
        if renews and not self.is_away:
            length = timedelta(seconds=Tuning().lease_seconds)
            self.store.attempt(lambda connection: leases.renew(connection, owners, length), 0, write=True)
        else:
            self.was_shaken = True

    def check_begun(self, send: Send) -> None:
        """Judge a step that a send is about to begin; the rules are in ``test_model.py``."""


def _make_parts(settings: Settings) -> Parts:
    tuning = settings.tuning
    return Parts(
        settings=settings,
        lanes=Lanes(),
        flights=Flights(),
        front=Front(tuning.front_entries, tuning.front_trust),
        counters=Counters(settings.scope),
        background=Renewals(),  # type: ignore[arg-type]
    )


def _reply(answer: dict[str, Any]) -> Reply:
    return Reply(200, json.dumps(answer, ensure_ascii=False).encode())
