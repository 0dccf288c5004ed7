"""Several proxies on one database, and a database that goes away under load."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import TYPE_CHECKING

import pytest

from gewe_cache.store import migrate
from gewe_cache.store.engine import open_database
from tests.faults.kit import until

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from tests.postgres import PostgresServer
    from tests.server.kit import Proxy, World

_PARALLEL = 16


@pytest.fixture
def server_world(world: World, postgres_server: PostgresServer) -> World:
    """Give a world on a PostgreSQL that the test may end."""
    database = open_database(postgres_server.url)
    migrate.upgrade(database)
    database.dispose()
    world.database = postgres_server.url
    return world


def _devices(world: World) -> list[str]:
    return [f"{world.sandbox.app_id}{number}" for number in range(_PARALLEL)]


def test_two_proxies_share_postgres_and_upload_once(postgres_world: World) -> None:
    world = postgres_world
    proxies = [world.open(tuning={"front_trust": 0.0}) for _ in range(2)]
    with ThreadPoolExecutor(_PARALLEL) as threads:
        answers = list(
            threads.map(
                lambda pair: world.post(proxies[pair[0] % 2], f"wxid_{pair[0]}", appId=pair[1]),
                enumerate(_devices(world)),
            )
        )
    assert {answer.json()["ret"] for answer in answers} == {200}
    assert len(world.sandbox.uploads) == 1
    assert len(world.sandbox.deliveries) == _PARALLEL


@pytest.mark.parametrize("way", ["stop", "kill"])
def test_postgres_is_restarted_under_load(server_world: World, postgres_server: PostgresServer, way: str) -> None:
    world = server_world
    proxy = world.open(tuning={"front_trust": 0.0, "store_pause": 0.2})
    end: Callable[[], None] = getattr(postgres_server, way)
    answers: list[tuple[str, httpx.Response]] = []
    images = [world.sandbox.make_image(f"{number}.png", width=8, height=8, seed=number + 1) for number in range(4)]
    stopping = False

    def load(number: int) -> None:
        sent = 0
        while not stopping:
            to_wxid = f"wxid_{number}_{sent}"
            image = images[sent % len(images)]
            answers.append((to_wxid, world.post(proxy, to_wxid, appId=_devices(world)[number], imgUrl=image)))
            sent += 1

    with ThreadPoolExecutor(_PARALLEL) as threads:
        loads = [threads.submit(load, number) for number in range(_PARALLEL)]
        try:
            assert until(lambda: len(answers) > 50)
            end()
            before = len(answers)
            assert until(lambda: len(answers) > before + 50)
            postgres_server.start()
            numbers = count()
            assert until(lambda: _saves_again(world, proxy, next(numbers)))
        finally:
            stopping = True
        for each in loads:
            each.result()
    assert {answer.json()["ret"] for _, answer in answers} == {200}
    assert [to_wxid for to_wxid, _ in answers if world.deliveries_to(to_wxid) != 1] == []
    assert world.sandbox.duplicates() == []


def _saves_again(world: World, proxy: Proxy, number: int) -> bool:
    """Tell whether an image that this proxy uploads is forwarded by another, which only the database can bring."""
    image = world.sandbox.make_image(f"late{number}.png", width=9, height=9, seed=number + 1)
    world.post(proxy, f"wxid_late_{number}", imgUrl=image, appId=f"{world.sandbox.app_id}_late")
    other = world.open()
    answer = world.post(other, f"wxid_later_{number}", imgUrl=image, appId=f"{world.sandbox.app_id}_later")
    other.close()
    world.proxies.remove(other)
    return answer.headers["x-gewe-cache"] == "forward"
