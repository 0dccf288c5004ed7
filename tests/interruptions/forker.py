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
from typing import TYPE_CHECKING, Any

import httpx

from gewe_cache import ImageSender

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

HAS_FORK = hasattr(os, "fork")


def _send(sender: ImageSender, to: str, url: str, device: str = "") -> str:
    try:
        return sender.send_image(to, url, app_id=device or f"wx_sandbox_{to}").route
    except RuntimeError as error:
        return str(error)


def _child(
    pipe: Connection, sender: ImageSender | None, settings: dict[str, Any], urls: list[str], device: str
) -> None:
    sender = sender or ImageSender(**settings)
    if urls:
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
    device = "wx_sandbox_wxid_held" if what == "same device" else ""
    child = context.Process(target=_child, args=(there, sender if HAS_FORK else None, settings, urls, device))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: of a fork beside threads
        child.start()
    answers["parent"] = [] if held.is_alive() else [_send(sender, "wxid_parent", url)]
    for name in ("child", "closed")[0 if urls else 1 :]:
        answers[name] = here.recv() if here.poll(15) else "nothing came"
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
