"""Performs scenarios in a bot's process: a plan a line on stdin, what came of it a line on stdout."""

# mypy: ignore-errors
import gc
import json
import sys
import threading

TOLD = "told: "


def serve(perform):
    """Perform plans until there are no more; tell also which threads of the library each has left."""
    while line := sys.stdin.readline():
        told = perform(json.loads(line))
        tell([told, _threads_left()])


def tell(what):
    """Tell the test something."""
    print(TOLD + json.dumps(what), flush=True)


def _threads_left():
    gc.collect()  # a client without close takes its sender along
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("gewe_cache")]
    for thread in threads:
        thread.join(10)
    return [thread.name for thread in threads if thread.is_alive()]
