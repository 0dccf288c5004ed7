"""``gewe-cache serve``, in a process of its own."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gewe_cache.server.run import listen
from tests.cli.running import command, line_with, started

if TYPE_CHECKING:
    from collections.abc import Iterator
    from subprocess import Popen

    from tests.server.kit import World


@contextmanager
def serving(world: World, *options: str, port: int = 0) -> Iterator[tuple[Popen[str], str]]:
    """Run it, and give its address as a bot's base URL."""
    arguments = command("serve", "--upstream", world.sandbox.url, "--port", str(port), *options)
    with started(arguments, {**os.environ, "GEWE_CACHE_DATABASE": world.database}) as process:
        ready = json.loads(line_with(process, '"ready"'))
        assert ready["upstream"] == world.sandbox.url
        yield process, f"{ready['url']}/gewe/v2/api"


@contextmanager
def hosting(world: World, *options: str) -> Iterator[str]:
    """Run it with files that GeWe can fetch, and give its address."""
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
    server = f"http://127.0.0.1:{port}"
    with serving(world, "--public-url", server, *options, port=port):
        yield server
