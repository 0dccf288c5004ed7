"""What goes wrong on the way to GeWe and back: over every supported HTTP client, on both routes.

Unreached: tried a few times, then ``GeweUnreachable``, and no call has arrived. Unknown: ``DeliveryUnknown``,
and the call has arrived once. The sandbox's record tells, not the library.
"""

from __future__ import annotations

import gzip
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import httpx2
import pytest

from gewe_cache import DeliveryUnknown, GeweRefused, GeweUnreachable
from gewe_cache.sandbox import Fault
from tests.faults.kit import CLIENTS, FAST, GIVEN_CLIENTS, PATIENCE, limit_calls, send, warnings_of
from tests.faults.wires import Gate, Names, encoded_answer, full_address, plain_answer, refusing_address

if TYPE_CHECKING:
    from concurrent.futures import Future

    from gewe_cache.sandbox import Plan
    from gewe_cache.sandbox.answers import Route
    from tests.faults.kit import Driver, World

_TRIES = len(FAST.unreached_pauses) + 1
_SHORT = 0.4
_HTML = b"<html><body><h1>Bad Gateway</h1></body></html>"
_JSON = b'{"ret":200,"msg":"\xe6\x93\x8d\xe4\xbd\x9c","data":{"newMsgId":1}}'

UNKNOWN: dict[str, Fault] = {
    "reset before delivery": Fault.reset(delivered=False),
    "reset after delivery": Fault.reset(delivered=True),
    "close before delivery": Fault.close(delivered=False),
    "close after delivery": Fault.close(delivered=True),
    "cut body": Fault.cut(10),
    "cut before the body": Fault.cut(0),
    "502": Fault.answer(_HTML, 502, "text/html"),
    "503": Fault.answer(b"", 503, "text/plain"),
    "504": Fault.answer(_HTML, 504, "text/html"),
    "504 in JSON": Fault.refuse(504, "Gateway Time-out", status=504, delivered=True),
    "408": Fault.answer(_HTML, 408, "text/html"),
    "HTML": Fault.answer(_HTML, 200, "text/html"),
    "empty": Fault.answer(b""),
    "truncated JSON": Fault.answer(_JSON[:-5]),
    "10 MB of JSON": Fault.answer(_JSON + b" " * 10_000_000),
    "10 MB of HTML in a 504": Fault.answer(b"<p>" * 3_500_000, 504, "text/html"),
}
SLOW: dict[str, Fault] = {
    "hang before delivery": Fault.hang(delivered=False),
    "hang after delivery": Fault.hang(delivered=True),
    "a drip of the body": Fault.drip(0.02, delivered=True, headers=False),
    "a byte a second": Fault.drip(1.0, delivered=True, headers=False),
}
REFUSED: dict[str, tuple[int, Fault]] = {
    "404": (404, Fault.answer(_HTML, 404, "text/html", delivered=False)),
    "413": (413, Fault.answer(b"", 413, "text/plain", delivered=False)),
}


@pytest.fixture(params=CLIENTS)
def kind(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


@pytest.fixture
def driver(kind: str, world: World) -> Driver:
    return world.open(kind)


@pytest.fixture(params=["upload", "forward"])
def route(request: pytest.FixtureRequest) -> Route:
    chosen: Route = request.param
    return chosen


@pytest.fixture
def image(world: World, route: Route) -> str:
    """Give the image, which is known already where it is to be forwarded."""
    if route == "forward":
        sender = world.open()
        send(sender, "wxid_first", world.image)
    return world.image


def _begin(world: World, driver: Driver, image: str, route: Route, fault: Fault) -> tuple[Plan, Future[Any]]:
    plan = world.sandbox.fail(fault, route=route, to_wxid="wxid_victim")
    return plan, driver.begin("wxid_victim", image)


def _check_unknown(world: World, driver: Driver, image: str, route: Route, error: BaseException | None) -> None:
    """Hold that the call went out once and was reported as unknown, and that the sender still works."""
    assert isinstance(error, DeliveryUnknown), repr(error)
    assert (error.to_wxid, error.app_id, error.route) == ("wxid_victim", world.sandbox.app_id, route)
    assert timedelta(0) <= datetime.now(UTC) - error.started_at < timedelta(seconds=PATIENCE)
    assert "unknown whether the image reached wxid_victim" in str(error)
    limit_calls(driver, 20.0)
    after = send(driver, "wxid_after", image)
    assert world.calls_to("wxid_victim") == 1
    assert world.deliveries_to("wxid_after") == 1
    world.check_delivered(after)


@pytest.mark.parametrize("fault", UNKNOWN.values(), ids=UNKNOWN)
def test_an_answer_that_tells_nothing_is_unknown(
    world: World, driver: Driver, image: str, route: Route, fault: Fault, caplog: pytest.LogCaptureFixture
) -> None:
    _, sending = _begin(world, driver, image, route, fault)
    _check_unknown(world, driver, image, route, sending.exception(PATIENCE))
    assert world.deliveries_to("wxid_victim") == fault.delivered
    assert len(warnings_of(caplog.records, "unknown:")) == 1


@pytest.mark.parametrize("fault", SLOW.values(), ids=SLOW)
def test_an_answer_that_does_not_come_in_time_is_unknown(
    world: World, driver: Driver, image: str, route: Route, fault: Fault
) -> None:
    limit_calls(driver, _SHORT)
    began = time.monotonic()
    plan, sending = _begin(world, driver, image, route, fault)
    error = sending.exception(PATIENCE)
    assert time.monotonic() - began < 10 * _SHORT
    assert plan.wait_reached()
    _check_unknown(world, driver, image, route, error)
    assert world.deliveries_to("wxid_victim") == fault.delivered


def test_dripping_headers_end_in_time_but_for_a_sync_client_that_is_not_ours(
    world: World, kind: str, driver: Driver, image: str, route: Route
) -> None:
    """Of such a client each single read is bounded, their number is not: it may overrun, but says the truth."""
    limit_calls(driver, _SHORT)
    plan, sending = _begin(world, driver, image, route, Fault.drip(0.02, delivered=True, headers=True))
    assert plan.wait_reached()
    if kind not in {"sync httpx", "sync httpx2"}:
        assert isinstance(sending.exception(PATIENCE), DeliveryUnknown)
    plan.release()
    error = sending.exception(PATIENCE)
    if error is not None:
        _check_unknown(world, driver, image, route, error)
    assert world.calls_to("wxid_victim") == world.deliveries_to("wxid_victim") == 1


@pytest.mark.parametrize(("status", "fault"), REFUSED.values(), ids=REFUSED)
def test_a_client_error_without_json_is_a_refusal(
    world: World, driver: Driver, image: str, route: Route, status: int, fault: Fault
) -> None:
    _, sending = _begin(world, driver, image, route, fault)
    error = sending.exception(PATIENCE)
    assert isinstance(error, GeweRefused)
    assert error.ret == status
    assert "check base_url" in str(error)
    assert world.calls_to("wxid_victim") == 1
    assert world.deliveries_to("wxid_victim") == 0


@pytest.mark.parametrize("status", [302, 307])
def test_a_redirect_is_refused_and_not_followed(world: World, kind: str, image: str, route: Route, status: int) -> None:
    client = {"follow_redirects": True} if kind in GIVEN_CLIENTS else {}
    path = "postImage" if route == "upload" else "forwardImage"
    elsewhere = f"{world.sandbox.base_url}/message/{path}".encode()
    with Gate(world.sandbox.base_url) as gate:
        gate.passes = False
        gate.tamper = lambda *_: b"HTTP/1.1 %d X\r\nlocation: %s\r\ncontent-length: 0\r\n\r\n" % (status, elsewhere)
        error = world.open(kind, base_url=gate.base_url, client=client).begin("wxid_victim", image).exception(PATIENCE)
        assert gate.calls == 1
    assert isinstance(error, GeweRefused)
    assert error.ret == status
    assert "a redirect, which is not followed" in str(error)
    assert world.calls_to("wxid_victim") == 0


@pytest.mark.parametrize(
    "body",
    [b"not gzip at all", gzip.compress(_JSON)[:-20], gzip.compress(b" " * 50_000_000)],
    ids=["no gzip", "cut gzip", "gzip bomb"],
)
def test_a_garbled_compression_is_unknown(world: World, kind: str, image: str, route: Route, body: bytes) -> None:
    with Gate(world.sandbox.base_url) as gate:
        driver = world.open(kind, base_url=gate.base_url)
        gate.tamper = lambda *_: encoded_answer(b"gzip", body)
        error = driver.begin("wxid_victim", image).exception(PATIENCE)
        gate.tamper = plain_answer
        _check_unknown(world, driver, image, route, error)
    assert world.deliveries_to("wxid_victim") == 1


def test_connections_that_the_server_closes_between_sends_cost_nothing(world: World, kind: str) -> None:
    with Gate(world.sandbox.base_url) as gate:
        gate.closes_idle = True
        driver = world.open(kind, base_url=gate.base_url)
        sent = []
        for number in range(5):
            sent.append(send(driver, f"wxid_{number}", world.image))
            assert gate.closed.acquire(timeout=PATIENCE)
        assert gate.calls == 5
    assert [each.route for each in sent] == ["upload", "forward", "forward", "forward", "forward"]
    world.check_delivered(*sent)


def test_a_connection_refused_is_unreached(world: World, kind: str, image: str) -> None:
    with refusing_address() as address:
        _check_unreached(world, world.open(kind, base_url=address), image)


def test_a_hang_on_connect_is_unreached(world: World, kind: str, image: str) -> None:
    with full_address() as address:
        began = time.monotonic()
        _check_unreached(world, world.open(kind, base_url=address, timeout=_SHORT), image)
        assert time.monotonic() - began < 10 * _SHORT


def test_a_host_without_an_address_is_unreached(world: World, kind: str, image: str, resolver: Resolver) -> None:
    resolver.failures = 1000
    _check_unreached(world, world.open(kind, base_url="http://gewe.test/gewe/v2/api"), image)
    assert resolver.asked == _TRIES


def test_a_try_that_reaches_gewe_after_others_did_not_sends_once(
    world: World, kind: str, image: str, route: Route, resolver: Resolver
) -> None:
    resolver.failures = _TRIES - 1
    base_url = world.sandbox.base_url.replace("127.0.0.1", "gewe.test")
    sent = send(world.open(kind, base_url=base_url), "wxid_victim", image)
    assert sent.route == route
    assert world.calls_to("wxid_victim") == 1
    world.check_delivered(sent)


@pytest.mark.parametrize("kind", GIVEN_CLIENTS)
def test_an_exhausted_pool_is_unreached(world: World, kind: str, image: str) -> None:
    limits = _limits_of(kind, max_connections=1)
    driver = world.open(kind, timeout=_SHORT, client={"limits": limits, "timeout": PATIENCE})
    holding = world.sandbox.fail(Fault.hold(), to_wxid="wxid_other")
    body = {"appId": world.sandbox.app_id, "toWxid": "wxid_other", "imgUrl": world.image}
    headers = {world.sandbox.token_header: world.sandbox.token}
    url = f"{world.sandbox.base_url}/message/postImage"
    with ThreadPoolExecutor(1) as threads:
        other = threads.submit(driver.run, lambda: driver.http_client.post(url, json=body, headers=headers))
        assert holding.wait_reached()
        _check_unreached(world, driver, image)
        holding.release()
        assert other.result(PATIENCE).json()["ret"] == 200


@pytest.mark.parametrize("kind", GIVEN_CLIENTS)
def test_a_closed_client_is_unreached(world: World, kind: str, image: str) -> None:
    driver = world.open(kind)
    driver.run(getattr(driver.http_client, "aclose", None) or driver.http_client.close)
    error = _check_unreached(world, driver, image)
    assert "http_client passed in is closed" in str(error)


@pytest.mark.parametrize("kind", GIVEN_CLIENTS)
@pytest.mark.parametrize("value", ["two\r\nX-Lines: 1", "nul\0"], ids=["line break", "nul"])
def test_an_invalid_header_is_unreached(world: World, kind: str, image: str, value: str) -> None:
    _check_unreached(world, world.open(kind, client={"headers": {"X-Mark": value}}), image)


@pytest.mark.parametrize("kind", GIVEN_CLIENTS)
def test_an_event_hook_that_fails_after_the_answer_makes_no_second_call(world: World, kind: str, image: str) -> None:
    def fail(_response: object) -> None:
        message = "a hook of the caller's"
        raise OSError(message)

    async def fail_async(response: object) -> None:
        fail(response)

    hook = fail if kind.startswith("sync") else fail_async
    driver = world.open(kind, client={"event_hooks": {"response": [hook]}})
    error = driver.begin("wxid_victim", image).exception(PATIENCE)
    assert isinstance(error, DeliveryUnknown)
    assert world.calls_to("wxid_victim") == world.deliveries_to("wxid_victim") == 1


@pytest.mark.parametrize("kind", GIVEN_CLIENTS)
def test_an_event_hook_that_cannot_connect_elsewhere_makes_no_second_call(world: World, kind: str, image: str) -> None:
    """What it raises looks as if the call itself had not got through."""
    http: Any = httpx2 if kind.endswith("httpx2") else httpx

    def tell(_response: object) -> None:
        with refusing_address() as nobody:
            http.post(nobody, trust_env=False)

    async def tell_async(response: object) -> None:
        tell(response)

    hook = tell if kind.startswith("sync") else tell_async
    driver = world.open(kind, client={"event_hooks": {"response": [hook]}})
    for route in ("upload", "forward"):
        error = driver.begin(f"wxid_{route}", image).exception(PATIENCE)
        assert isinstance(error, DeliveryUnknown)
        assert world.calls_to(f"wxid_{route}") == world.deliveries_to(f"wxid_{route}") == 1


@pytest.mark.parametrize("elsewhere", [b"mailto:ops@example.com", b"http://["])
def test_a_redirect_to_nowhere_is_one_call(world: World, kind: str, image: str, elsewhere: bytes) -> None:
    with Gate(world.sandbox.base_url) as gate:
        gate.passes = False
        gate.tamper = lambda *_: b"HTTP/1.1 302 X\r\nlocation: %s\r\ncontent-length: 0\r\n\r\n" % elsewhere
        error = world.open(kind, base_url=gate.base_url).begin("wxid_victim", image).exception(PATIENCE)
        assert gate.calls == 1
    assert isinstance(error, GeweRefused | DeliveryUnknown)


def _limits_of(kind: str, **limits: int) -> Any:
    return (httpx2 if kind.endswith("httpx2") else httpx).Limits(**limits)


def _check_unreached(world: World, driver: Driver, image: str) -> GeweUnreachable:
    error = driver.begin("wxid_victim", image).exception(PATIENCE)
    assert isinstance(error, GeweUnreachable), repr(error)
    assert "Nothing was sent to wxid_victim" in str(error)
    assert world.calls_to("wxid_victim") == 0
    assert world.sandbox.duplicates() == []
    return error


class Resolver(Names):
    """Knows it after a number of failures."""

    def __init__(self) -> None:
        super().__init__()
        self.failures = 0
        self.asked = 0

    def before_answer(self) -> None:
        self.asked += 1
        if self.asked <= self.failures:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    resolver = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    return resolver
