"""The sandbox as a whole, served from a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from datetime import timedelta
from types import TracebackType
from typing import Final, Self

from uvicorn import Config
from uvicorn.server import ServerState

from gewe_cache.sandbox.answers import Route
from gewe_cache.sandbox.app import SandboxApp
from gewe_cache.sandbox.cdn import Cdn
from gewe_cache.sandbox.control import control_app
from gewe_cache.sandbox.delays import Delays
from gewe_cache.sandbox.download import Downloader
from gewe_cache.sandbox.entrance import Entrance
from gewe_cache.sandbox.faults import Fault
from gewe_cache.sandbox.gewe import Gewe, Habits
from gewe_cache.sandbox.images import HostedImages, draw
from gewe_cache.sandbox.plans import Aim, Plan, Plans
from gewe_cache.sandbox.protocol import SandboxProtocol
from gewe_cache.sandbox.record import Call, Delivery, Duplicate, Record, duplicated, overlapping

APP_ID: Final = "wx_sandbox_1"
_BACKLOG: Final = 2048
_KEEP_ALIVE_SECONDS: Final = 75
_DEFAULT_DELAYS: Final = Delays.none()


class Sandbox:
    """An imitation of GeWe's image calls on loopback, with a record of what it delivered.

    Use it as a context manager, or with `start` and `stop`; stopped, it may be started again and
    keeps its port, record and CDN information. All its methods may be called from any thread.

    Its record tells overlapping calls apart only if calls take time: give it `delays`, or a
    `Fault.hold`, where `overlaps` is to prove something.
    """

    def __init__(  # noqa: PLR0913 - settings, all optional
        self,
        port: int = 0,
        host: str = "127.0.0.1",
        delays: Delays = _DEFAULT_DELAYS,
        cdn_lifetime: timedelta | None = None,
        token: str = "sandbox-token",  # noqa: S107 - no secret
        token_header: str = "X-GEWE-TOKEN",  # noqa: S107
        any_token: bool = False,  # noqa: FBT001, FBT002 - the sandbox's agreed spelling
        *,
        converts: bool = False,
        expired_answer: Mapping[str, object] | None = None,
        download_timeout: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare a sandbox; nothing listens before `start`.

        Args:
            port: the TCP port; 0 takes a free one.
            host: a loopback address or "localhost".
            delays: how long things take.
            cdn_lifetime: how long issued CDN information lives; None: for ever.
            token: the token that calls have to carry.
            token_header: the HTTP header they carry it in.
            any_token: accept every non-empty token.
            converts: re-encode images as JPEG, so that GeWe's md5 differs from the file's.
            expired_answer: the JSON object that answers a forward of expired CDN information. How
                GeWe words that is not known; the default says cdn信息已失效 in `data.msg`.
            download_timeout: seconds in total for downloading an image.
            clock: seconds by which CDN information ages.

        Raises:
            ValueError: `host` is not on loopback, or a setting is out of range.
        """
        self._host = _loopback(host)
        self._port = port
        self.token: Final = token
        self.token_header: Final = token_header
        self.app_id: Final = APP_ID
        self._entrance = Entrance(token, token_header, any_token=any_token)
        self._cdn = Cdn(cdn_lifetime, clock)
        self._record = Record()
        self._plans = Plans()
        self._images = HostedImages()
        self._downloader = Downloader(download_timeout)
        gewe = Gewe(Habits(delays, converts, expired_answer), self._cdn, self._record, self._downloader)
        self._app = SandboxApp(self._entrance, self._plans, self._record, gewe, control_app(self, self._images))
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    def __repr__(self) -> str:
        """Show the address, and no token."""
        state = "running" if self.is_running else "stopped"
        return f"Sandbox(host={self._host!r}, port={self._port}, {state})"

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    # --- serving -------------------------------------------------------------------------------------

    @property
    def is_running(self) -> bool:
        """Whether the sandbox is being served."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Listen, and serve from a thread.

        Raises:
            OSError: the port cannot be had.
            RuntimeError: the sandbox is running already.
        """
        if self.is_running:
            message = "the sandbox is running already"
            raise RuntimeError(message)
        listener = _listen(self._host, self._port)
        self._port = listener.getsockname()[1]
        ready: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(listener, ready), name=f"gewe-sandbox-{self._port}", daemon=True
        )
        self._thread.start()
        ready.result()

    def stop(self) -> None:
        """End all calls under way, close all connections and wait for the thread. Twice does no harm."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        if self._loop is not None and self._stopping is not None and thread.is_alive():
            with contextlib.suppress(RuntimeError):  # the server has just ended by itself
                self._loop.call_soon_threadsafe(self._stopping.set)
        thread.join()

    def _run(self, listener: socket.socket, ready: Future[None]) -> None:
        try:
            with listener:
                asyncio.run(self._serve(listener, ready))
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(error)

    async def _serve(self, listener: socket.socket, ready: Future[None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        state = ServerState()
        state.default_headers = [(b"server", b"gewe-sandbox")]
        config = Config(
            self._app,
            http=SandboxProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            proxy_headers=False,
            server_header=False,
            interface="asgi3",
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        )
        config.load()
        server = await self._loop.create_server(
            lambda: SandboxProtocol(config=config, server_state=state, app_state={}),
            sock=listener,
            backlog=_BACKLOG,
        )
        ready.set_result(None)
        await self._stopping.wait()
        await self._stop_accepting(listener)
        server.close()
        await self._end_connections(state)
        await self._downloader.aclose()

    async def _stop_accepting(self, listener: socket.socket) -> None:
        # asyncio leaks a connection that it is accepting while its server is closed: so first stop
        # listening (Windows' loop cannot, and has hardly any such moment), then let it finish those.
        with contextlib.suppress(NotImplementedError):
            asyncio.get_running_loop().remove_reader(listener)
        for _ in range(5):
            await asyncio.sleep(0)

    async def _end_connections(self, state: ServerState) -> None:
        while state.connections or state.tasks:
            self._app.stop_calls()
            for connection in list(state.connections):
                if isinstance(connection, SandboxProtocol):
                    connection.transport.abort()
            await asyncio.sleep(0.001)

    # --- addresses, tokens, devices ------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The server's root, such as `http://127.0.0.1:49152`.

        Raises:
            RuntimeError: the port is not known before the first `start`.
        """
        if self._port == 0:
            message = "the sandbox has no port yet: start it first"
            raise RuntimeError(message)
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    @property
    def base_url(self) -> str:
        """The base URL that GeWe clients want; the same calls are served under `/v2/api` too."""
        return self.url + "/gewe/v2/api"

    def add_tokens(self, *tokens: str) -> None:
        """Accept these tokens as well."""
        self._entrance.add_tokens(tokens)

    def add_device(self, app_id: str) -> None:
        """Let this device exist; those that begin with `wx_sandbox` do anyway."""
        self._entrance.add_device(app_id)

    # --- images --------------------------------------------------------------------------------------

    def add_image(self, name: str, data: bytes, content_type: str | None = None) -> str:
        """Host `data` under `/images/NAME`, in place of what was there; return its URL."""
        return self.url + self._images.put(name, data, content_type)

    def make_image(
        self,
        name: str,
        *,
        width: int = 400,
        height: int = 300,
        seed: int = 0,
        approximate_bytes: int | None = None,
    ) -> str:
        """Make a real image (JPEG if `name` ends in .jpg or .jpeg, else PNG) and host it; return its URL.

        Another `seed` makes another image. `approximate_bytes` is met as far as the pixels allow.
        """
        data = draw(name, width=width, height=height, seed=seed, approximate_bytes=approximate_bytes)
        return self.add_image(name, data)

    # --- the record ----------------------------------------------------------------------------------

    @property
    def deliveries(self) -> list[Delivery]:
        """Everything delivered, in order of delivery; a copy."""
        return self._record.deliveries()

    @property
    def uploads(self) -> list[Delivery]:
        """What uploads delivered."""
        return [delivery for delivery in self.deliveries if delivery.route == "upload"]

    @property
    def forwards(self) -> list[Delivery]:
        """What forwards delivered."""
        return [delivery for delivery in self.deliveries if delivery.route == "forward"]

    @property
    def calls(self) -> list[Call]:
        """Every call that arrived, also refused and failed ones, in order of arrival; a copy."""
        return self._record.calls()

    def overlaps(self) -> list[tuple[Call, Call]]:
        """Return the pairs of calls of one `app_id` whose processing overlapped in time."""
        return overlapping(self.calls)

    def duplicates(self) -> list[Duplicate]:
        """Return what was delivered to one recipient more than once."""
        return duplicated(self.deliveries)

    # --- faults --------------------------------------------------------------------------------------

    def fail(
        self,
        fault: Fault,
        *,
        times: int | None = 1,
        route: Route | None = None,
        app_id: str | None = None,
        to_wxid: str | None = None,
    ) -> Plan:
        """Let the next `times` calls (None: all) of this route, device and recipient suffer `fault`.

        Several plans may fit a call: the one made first that has uses left wins.

        Raises:
            ValueError: `times` is less than 1.
        """
        return self._plans.add(fault, Aim(route, app_id, to_wxid), times)

    @property
    def plans(self) -> list[Plan]:
        """The faults planned since the last `heal`, used up or not."""
        return self._plans.all()

    def heal(self) -> None:
        """Forget all faults; held calls go on, hanging ones end."""
        self._plans.heal()

    def expire_cdn(self) -> None:
        """Let everything issued so far be expired from now on."""
        self._cdn.expire_all()

    def clear(self) -> None:
        """Forget the record and all faults; CDN information stays."""
        self.heal()
        self._record.clear()


def run_forever(sandbox: Sandbox, on_ready: Callable[[Sandbox], None] | None = None) -> None:
    """Serve in the foreground until Ctrl-C, which ends it quietly.

    `on_ready` is called once the sandbox listens.

    Raises:
        OSError: the port cannot be had.
        RuntimeError: the server ended by itself.
    """
    with sandbox:
        try:
            if on_ready is not None:
                on_ready(sandbox)
            _wait_for_ctrl_c(sandbox)
        except KeyboardInterrupt:
            return
    message = "the sandbox's server has ended by itself"
    raise RuntimeError(message)


def _wait_for_ctrl_c(sandbox: Sandbox) -> None:
    # Short sleeps: on Windows, Ctrl-C does not interrupt waiting for a thread.
    while sandbox.is_running:
        time.sleep(0.2)


def _loopback(host: str) -> str:
    if host == "localhost":
        return "127.0.0.1"
    try:
        address = ipaddress.ip_address(host)
    except ValueError as error:
        message = f"the sandbox listens on loopback only: {host!r} is not a loopback address"
        raise ValueError(message) from error
    if not address.is_loopback:
        message = f"the sandbox listens on loopback only, not on {host}"
        raise ValueError(message)
    return host


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns off the delays of Nagle only where the protocol is named.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":  # on Windows the option would share the port with strangers
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener
