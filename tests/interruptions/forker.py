"""A process that forks with an open sender in use; where there is no fork, its child makes a sender of its own.

Arguments: a JSON object of the sender's settings, the image's URL, a second one, and what to try. Answers with
one JSON object: what the parent and the child got.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import threading
import warnings
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any
from unittest import mock

import httpx

from gewe_cache import ImageSender
from gewe_cache.sending.core import Core
from gewe_cache.sending.sender import _fork_lock

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from gewe_cache.settings import Settings

_PATIENCE = 15
HAS_FORK = hasattr(os, "fork")


def _send(sender: ImageSender, to: str, url: str, device: str = "") -> str:
    try:
        return sender.send_image(to, url, app_id=device or f"wx_sandbox_{to}").route
    except RuntimeError as error:
        return str(error)


def _first_sends_of_two_threads(sender: ImageSender, urls: list[str]) -> list[str]:
    """Let the second begin while the first makes what a child needs; give the routes, and how often it was made."""
    pool, made, second = ThreadPoolExecutor(1), [0], list[Future[str]]()
    make = Core.make

    def make_slowly(settings: Settings, **more: Any) -> Core:
        made[0] += 1
        if not second:
            second.append(pool.submit(_send, sender, "wxid_child_1", urls[1]))
            wait(second, timeout=0.5)
        return make(settings, **more)

    with mock.patch.object(Core, "make", make_slowly):
        routes = [_send(sender, "wxid_child_0", urls[0])]
    return [*routes, *(send.result(_PATIENCE) for send in second), f"made {made[0]}"]


def _child(
    pipe: Connection, sender: ImageSender | None, settings: dict[str, Any], urls: list[str], device: str
) -> None:
    is_inherited = sender is not None
    sender = sender or ImageSender(**settings)
    if device == "two threads":
        pipe.send(_first_sends_of_two_threads(sender, urls) if is_inherited else [])
    elif urls:
        pipe.send([_send(sender, f"wxid_child_{number}", url, device) for number, url in enumerate(urls)])
    sender.close()
    pipe.send("closed")


def main() -> None:
    """Send, fork, send on both sides, close both."""
    settings, url, other_url, what = json.loads(sys.argv[1]), *sys.argv[2:]
    client = httpx.Client() if what == "given" else None
    sender = ImageSender(**settings, http_client=client)
    answers: dict[str, Any] = {"before": _send(sender, "wxid_before", url)}
    context: Any = multiprocessing.get_context("fork" if HAS_FORK else "spawn")
    here, there = context.Pipe()
    held = threading.Thread(target=_send, args=(sender, "wxid_held", url))
    if what in {"busy", "unused", "same device"}:
        held.start()
        sys.stdin.readline()
    urls = [] if what == "unused" else [url, other_url]
    device = {"same device": "wx_sandbox_wxid_held", "two threads": what}.get(what, "")
    child = context.Process(target=_child, args=(there, sender if HAS_FORK else None, settings, urls, device))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: of a fork beside threads
        with _fork_lock:  # as another thread may
            child.start()
    answers["parent"] = [] if held.is_alive() else [_send(sender, "wxid_parent", url)]
    for name in ("child", "closed")[0 if urls else 1 :]:
        answers[name] = here.recv() if here.poll(_PATIENCE) else "nothing came"
    sys.stdout.write(json.dumps(answers) + "\n")
    sys.stdout.flush()
    child.join(5)
    if child.is_alive():
        child.kill()
    if held.ident is not None:
        held.join()
    sender.close()
    if client is not None:
        client.close()


if __name__ == "__main__":
    main()
