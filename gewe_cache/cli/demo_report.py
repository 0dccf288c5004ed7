"""What ``gewe-cache demo`` says before and after: what is imitated, what was saved, and the proof."""

from __future__ import annotations

import shlex
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table
from rich.text import Text

from gewe_cache.cli.cache import app as cache_app
from gewe_cache.cli.demo_run import ImageSavings, Proof, Sent, Stage
from gewe_cache.cli.output import console, print_json
from gewe_cache.text import human_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gewe_cache.sandbox import Delays


def print_intro(stage: Stage, delays: Delays, factor: float, database: str) -> None:
    """Say what is real, what is imitated, and what was assumed."""
    out = console()
    _say(f"{len(stage.images)} images, each to {stage.chats} chats, one send after the other.", "bold")
    out.print()
    _say(
        f"GeWe is imitated here, by the sandbox on {stage.sandbox.url}: nothing reaches WeChat. "
        "The sender, the HTTP and the database are the real ones."
    )
    _say(f"Database: {database}")
    pace = "" if factor == 1 else f", shortened to {factor:.0%}"
    parts = (
        f"{_seconds(delays.download_seconds_per_mb)} download",
        f"{_seconds(delays.convert_seconds_per_mb)} conversion",
        f"{_seconds(delays.upload_seconds_per_mb)} CDN",
    )
    _say(f"GeWe publishes no times. These are assumed{pace}:")
    _say(f"  upload   {_seconds(delays.call_seconds)} s, and {_seconds(_per_mb(delays))} s per MB ({', '.join(parts)})")
    _say(f"  forward  {_seconds(delays.call_seconds + delays.forward_seconds)} s, whatever the size")
    out.print()


def print_savings(savings: Sequence[ImageSavings]) -> None:
    """Print what each image's sends took, and what uploads would have taken."""
    out = console()
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
    table.add_column("image", no_wrap=True)
    for name in ("size", "upload", "forward", "ratio", "time saved", "bytes saved"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in savings:
        table.add_row(
            each.image.name,
            human_size(each.image.size),
            f"{each.upload_seconds:.2f} s",
            f"{each.median_forward:.3f} s",
            f"{each.upload_seconds / each.median_forward:.1f}",
            f"{each.seconds_saved:.1f} s",
            human_size(each.bytes_saved),
        )
    out.print()
    _say("What was saved (forward: the median; ratio: upload to forward)", "bold")
    out.print(table)
    _say(_saved_in_words(savings), "green")


def print_proof(proof: Proof, stage: Stage) -> None:
    """Print the sandbox's own record of it."""
    console().print()
    _say(f"{in_words(proof)} Each image: 1 upload + {stage.chats - 1} forwards, once to each chat.")


def in_words(proof: Proof) -> str:
    """Give what the sandbox recorded."""
    return (
        f"The sandbox's own record: {proof.uploads} uploads, {proof.forwards} forwards, {proof.duplicates} duplicates."
    )


def show_cache(database: str) -> None:
    """Run the command that looks into the cache, as a user would."""
    arguments = ["list", "--database", database]
    console().print()
    _say("What is in the cache now, by the command that looks into any:", "bold")
    console().print(Text("$ " + _shell(["gewe-cache", "cache", *arguments])), soft_wrap=True)
    command: Any = typer.main.get_command(cache_app)
    command.main(args=arguments, prog_name="gewe-cache cache", standalone_mode=False)


def print_end() -> None:
    """Say that all of it is gone, and what to try next."""
    console().print()
    _say("Cleaned up: the sandbox has stopped, the database and its folder are gone.")
    _say("Next: run your own bot against the imitation, with gewe-cache sandbox.")


def print_start_as_json(stage: Stage, delays: Delays, database: str) -> None:
    """Say what is imitated and assumed, in one JSON line."""
    forward = delays.call_seconds + delays.forward_seconds
    print_json(
        {
            "event": "start",
            "gewe": "imitated",
            "sandbox": stage.sandbox.url,
            "database": database,
            "chats": stage.chats,
            "images": [{"name": image.name, "size": image.size, "url": image.url} for image in stage.images],
            "assumed_upload_seconds": delays.call_seconds,
            "assumed_upload_seconds_per_mb": round(_per_mb(delays), 6),
            "assumed_forward_seconds": round(forward, 6),
        }
    )


def print_sent_as_json(sent: Sent) -> None:
    """Print a send as one JSON line."""
    print_json(
        {
            "event": "sent",
            "image": sent.image.name,
            "size": sent.image.size,
            "chat": sent.chat,
            "to_wxid": sent.to_wxid,
            "route": sent.route,
            "seconds": round(sent.seconds, 6),
        }
    )


def print_summary_as_json(savings: Sequence[ImageSavings], proof: Proof) -> None:
    """Print what was saved, and the sandbox's record, as one JSON line."""
    print_json(
        {
            "event": "summary",
            "uploads": proof.uploads,
            "forwards": proof.forwards,
            "duplicates": proof.duplicates,
            "as_promised": proof.is_as_promised,
            "seconds": round(sum(each.seconds for each in savings), 6),
            "seconds_saved": round(sum(each.seconds_saved for each in savings), 6),
            "bytes_saved": sum(each.bytes_saved for each in savings),
        }
    )


def _saved_in_words(savings: Sequence[ImageSavings]) -> str:
    took = sum(each.seconds for each in savings)
    as_uploads = sum(each.seconds_as_uploads for each in savings)
    sends = sum(1 + len(each.forward_seconds) for each in savings)
    not_again = human_size(sum(each.bytes_saved for each in savings))
    return (
        f"{sends} sends took {took:.1f} s; with the delays assumed, {sends} uploads would have taken "
        f"{as_uploads:.0f} s. "
        f"Saved: {as_uploads - took:.0f} s, and {not_again} not uploaded again."
    )


def _per_mb(delays: Delays) -> float:
    return delays.download_seconds_per_mb + delays.convert_seconds_per_mb + delays.upload_seconds_per_mb


def _seconds(seconds: float) -> str:
    return f"{seconds:.3g}"


def _shell(words: list[str]) -> str:
    return subprocess.list2cmdline(words) if sys.platform == "win32" else shlex.join(words)


def _say(text: str, style: str = "") -> None:
    console().print(Text(text, style=style))
