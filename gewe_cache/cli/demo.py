"""``gewe-cache demo``: watch images be uploaded once and forwarded from then on, by the real code."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Final

import typer

from gewe_cache.cli import demo_report
from gewe_cache.cli.demo_run import Courier, Sent, Stage, proof_of, savings_of, staged
from gewe_cache.cli.demo_view import GrowingTable
from gewe_cache.cli.interrupts import Interrupted, Interrupts
from gewe_cache.cli.output import EXIT_INTERRUPTED, errors_as_exit_codes, fail
from gewe_cache.sandbox import Delays

_QUICK_FACTOR: Final = 0.1


def demo(
    chats: Annotated[int, typer.Option("--chats", min=2, max=1000, help="How many chats get each image.")] = 20,
    *,
    quick: Annotated[bool, typer.Option("--quick", help="A tenth of the assumed delays.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON lines and nothing else.")] = False,
) -> None:
    """Send three images to 20 chats against an imitated GeWe: each uploaded once, forwarded from then on."""
    factor = _QUICK_FACTOR if quick else 1.0
    with errors_as_exit_codes():
        try:
            with Interrupts() as interrupts, TemporaryDirectory(prefix="gewe-cache-demo-") as folder:
                _Demo(chats, factor, folder, interrupts, json=json).run()
        except Interrupted:
            fail("Stopped. The sandbox has ended; the database and its folder are gone.", EXIT_INTERRUPTED)
        if not json:
            demo_report.print_end()


class _Demo:
    def __init__(self, chats: int, factor: float, folder: str, interrupts: Interrupts, *, json: bool) -> None:
        self._chats = chats
        self._factor = factor
        self._delays = Delays.realistic().scaled(factor)
        self._database = f"sqlite:///{(Path(folder) / 'cache.db').as_posix()}"
        self._interrupts = interrupts
        self._json = json

    def run(self) -> None:
        with staged(self._chats, self._delays, self._database) as (stage, courier):
            self._interrupts.check()
            sends = self._watch_as_json(stage, courier) if self._json else self._watch(stage, courier)
        # The sender is closed by now, so that its counters are in the database.
        self._interrupts.check()
        proof = proof_of(stage)
        if not proof.is_as_promised:
            fail(f"{demo_report.in_words(proof)} That is not 1 upload for each image and a forward for each chat more.")
        savings = savings_of(sends, stage.images)
        if self._json:
            demo_report.print_summary_as_json(savings, proof)
            return
        demo_report.print_savings(savings)
        demo_report.print_proof(proof, stage)
        demo_report.show_cache(self._database)

    def _watch(self, stage: Stage, courier: Courier) -> list[Sent]:
        demo_report.print_intro(stage, self._delays, self._factor, self._database)
        with GrowingTable(stage.images, stage.chats, self._delays) as table:
            courier.start()
            for event in courier.events(self._interrupts.check):
                table.show(event)
        table.print_totals()
        return table.sends

    def _watch_as_json(self, stage: Stage, courier: Courier) -> list[Sent]:
        demo_report.print_start_as_json(stage, self._delays, self._database)
        courier.start()
        sends: list[Sent] = []
        for event in courier.events(self._interrupts.check):
            if isinstance(event, Sent):
                demo_report.print_sent_as_json(event)
                sends.append(event)
        return sends
