"""``gewe-cache send``: one image to one or several recipients, one after the other."""

from __future__ import annotations

import time
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gewe_cache import ImageSender
from gewe_cache.cli.inputs import (
    AppIdOption,
    BaseUrlOption,
    DatabaseOption,
    IgnoreQueryOption,
    JsonOption,
    Md5Option,
    SenderScopeOption,
    ServerOption,
    TimeoutOption,
    TokenFileOption,
    TokenHeaderOption,
    TtlOption,
    UrlOption,
    read_ignored,
    read_image,
    read_server,
    read_token,
    read_ttl,
)
from gewe_cache.cli.output import (
    EXIT_FAILURE,
    EXIT_OK,
    EXIT_REFUSED,
    EXIT_UNKNOWN,
    EXIT_UNREACHED,
    EXIT_USAGE,
    close_stdout_quietly,
    complain,
    describe_error,
    errors_as_exit_codes,
    exit_code_of,
    fail,
    print_json,
    print_line,
)
from gewe_cache.errors import DeliveryUnknown, GeweCacheError, GeweRefused, RecipientUnavailable
from gewe_cache.sending.server_client import ServerClient
from gewe_cache.settings import DEFAULT_TOKEN_HEADER, check_name, find_database, make_settings
from gewe_cache.store.engine import parse_database_url
from gewe_cache.store.schema import command_on

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gewe_cache.image import Image, SentImage

_OUTCOMES = {EXIT_REFUSED: "refused", EXIT_UNREACHED: "unreached", EXIT_UNKNOWN: "unknown"}
_FROM_BEST_TO_WORST = (EXIT_OK, EXIT_FAILURE, EXIT_UNREACHED, EXIT_REFUSED, EXIT_UNKNOWN)


def send(  # noqa: PLR0913, PLR0917 - one argument an option
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="A URL, the path of a local file, or an md5.")],
    to: Annotated[list[str], typer.Argument(metavar="TO...", help="Friends (wxid_…) and groups (…@chatroom).")],
    url: UrlOption = None,
    md5: Md5Option = None,
    server: ServerOption = None,
    app_id: AppIdOption = None,
    token_file: TokenFileOption = None,
    base_url: BaseUrlOption = None,
    token_header: TokenHeaderOption = DEFAULT_TOKEN_HEADER,
    scope: SenderScopeOption = None,
    ttl: TtlOption = None,
    timeout: TimeoutOption = None,
    ignore_query: IgnoreQueryOption = None,
    database: DatabaseOption = None,
    *,
    refresh: Annotated[bool, typer.Option("--refresh", help="Upload once more: the image at its URL changed.")] = False,
    json: JsonOption = False,
) -> None:
    """Send an image: uploaded once, forwarded ever after.

    The token is read from GEWE_TOKEN or --token-file. A recipient's refusal does not stop the rest; a refusal of
    the token, the device, the image or the pace does. What may have been sent is never sent again by itself.

    A local file that is in the cache is forwarded; one that is not needs --url, or --server: then all is sent through
    that server, with its cache and its queues (--timeout is then of a whole send, 600 by default).
    """
    with errors_as_exit_codes():
        recipients = _read_recipients(to)
        chosen = read_image(image, url=url, md5=md5)
        settings: dict[str, Any] = {
            "base_url": base_url,
            "token_header": token_header,
            "database": database,
            "scope": scope,
            "ttl": None if ttl is None else read_ttl(ttl),
            "timeout": timeout,
            "ignore_query": read_ignored(ignore_query),
        }
        through = read_server(server)
        sender: ImageSender | ServerClient
        if through is None:
            sender = ImageSender(read_token(token_file), app_id, **settings)
        else:
            _refuse_what_the_server_decides(md5=md5, database=database, scope=scope, ttl=ttl, ignore_query=ignore_query)
            sender = ServerClient(
                through, make_settings(read_token(token_file), app_id, tuning=None, **settings), timeout
            )
        with closing(sender):
            run = _Run(sender, chosen, recipients, database, as_json=json, refresh=refresh)
            try:
                run.send_all()
            finally:
                run.sum_up()
    raise typer.Exit(run.exit_code)


@dataclass(slots=True)
class _Run:
    """One image on its way to its recipients."""

    sender: ImageSender | ServerClient
    image: Image
    recipients: Sequence[str]
    database: str | None
    as_json: bool
    refresh: bool
    exit_code: int = EXIT_OK
    tried: int = 0
    is_unheard: bool = False
    counts: dict[str, int] = field(default_factory=dict)

    def send_all(self) -> None:
        """Send to each in turn, until something stands in the way of all."""
        for to_wxid in self.recipients:
            began = time.monotonic()
            self.tried += 1
            try:
                sent = self.sender.send_image(to_wxid, self.image, refresh=self.refresh)
            except GeweCacheError as error:
                code = exit_code_of(error)
                if code not in _OUTCOMES:
                    self.tried -= 1
                    raise
                self._report_failure(to_wxid, error, code, time.monotonic() - began)
                if _stops_all(error) or self.is_unheard:
                    return
            except KeyboardInterrupt:
                self._report_interruption(to_wxid, time.monotonic() - began)
                return
            else:
                self.refresh = False  # the rest forward what has just been uploaded
                self._report_sent(sent, time.monotonic() - began)
                if self.is_unheard:
                    return

    def sum_up(self) -> None:
        """Say who was not tried, and how many came to what."""
        left = self.recipients[self.tried :]
        if left:
            lines = [{"to_wxid": to_wxid, "outcome": "not_tried"} for to_wxid in left]
            self._say(lines, f"Not tried, nothing was sent to: {' '.join(left)}")
        if len(self.recipients) > 1 and not self.as_json:
            parts = [f"{count} {outcome}" for outcome, count in self.counts.items()]
            complain(", ".join([*parts, f"{len(left)} not tried"] if left else parts) + ".")
        if isinstance(self.sender, ImageSender) and self.sender.stats().store_failures:
            check = command_on("gewe-cache db check", parse_database_url(find_database(self.database)))
            complain(f"The cache was not kept: its database failed. To see why, without sending again: {check}")

    def _report_sent(self, sent: SentImage, seconds: float) -> None:
        self._count("accepted")
        fell_back = " (a forward was refused first)" if sent.fell_back else ""
        message_id = "-" if sent.new_msg_id is None else sent.new_msg_id
        line = f"{sent.to_wxid}  {sent.route:<7}  new_msg_id {message_id}  {seconds:.2f} s{fell_back}"
        if self.as_json:
            self._say([_sent_as_json(sent, seconds)], f"accepted: {line}")
            return
        with self._heard_or(f"accepted: {line}"):
            print_line(line)

    def _report_failure(self, to_wxid: str, error: GeweCacheError, code: int, seconds: float) -> None:
        outcome = _OUTCOMES[code]
        self._count(outcome)
        self._worsen(code)
        fields = _failure_as_json(to_wxid, outcome, error, seconds)
        self._say([fields], f"{to_wxid}: {outcome}: {describe_error(error)}")

    def _report_interruption(self, to_wxid: str, seconds: float) -> None:
        """Say that the send under way may have gone out: nobody waited for its answer."""
        self._count("unknown")
        self._worsen(EXIT_UNKNOWN)
        message = "Interrupted: the image may have been sent. Look into that chat before you send it again."
        outcome = {"to_wxid": to_wxid, "outcome": "unknown", "error": "KeyboardInterrupt", "ret": None}
        fields = {**outcome, "message": message, "seconds": round(seconds, 3)}
        self._say([fields], f"{to_wxid}: unknown: {message}")

    def _say(self, lines: Sequence[dict[str, Any]], message: str) -> None:
        """Print JSON lines where JSON is wanted, else complain."""
        if self.as_json and not self.is_unheard:
            with self._heard_or(message):
                for line in lines:
                    print_json(line)
        else:
            complain(message)

    @contextmanager
    def _heard_or(self, message: str) -> Iterator[None]:
        """Say on stderr what stdout takes no more (its reader has gone, its disk is full): it has happened, too."""
        try:
            yield
        except OSError as error:
            self.is_unheard = True
            self._worsen(EXIT_FAILURE)
            close_stdout_quietly()
            complain(message)
            complain(f"Standard output takes no more ({describe_error(error)}).")

    def _worsen(self, code: int) -> None:
        self.exit_code = max(self.exit_code, code, key=_FROM_BEST_TO_WORST.index)

    def _count(self, outcome: str) -> None:
        self.counts[outcome] = self.counts.get(outcome, 0) + 1


def _refuse_what_the_server_decides(**options: object) -> None:
    for name, value in options.items():
        if value:
            option = f"--{name.replace('_', '-')}"
            msg = f"{option}: the server decides it; leave it out, or --server (GEWE_CACHE_SERVER). Nothing was sent."
            raise ValueError(msg)


def _read_recipients(to: Sequence[str]) -> Sequence[str]:
    for to_wxid in to:
        check_name("TO", to_wxid)
    if len(set(to)) < len(to):
        fail("TO: a recipient is named twice. Nothing was sent.", EXIT_USAGE)
    return to


def _stops_all(error: GeweCacheError) -> bool:
    """Tell what would befall every other recipient too; an unlisted refusal may be the recipient's own."""
    if isinstance(error, DeliveryUnknown | RecipientUnavailable):
        return False
    return type(error) is not GeweRefused


def _sent_as_json(sent: SentImage, seconds: float) -> dict[str, Any]:
    return {
        "to_wxid": sent.to_wxid,
        "outcome": "accepted",
        "app_id": sent.app_id,
        "route": sent.route,
        "fell_back": sent.fell_back,
        "msg_id": sent.msg_id,
        "new_msg_id": sent.new_msg_id,
        "create_time": sent.create_time,
        "entry_id": None if sent.image is None else sent.image.entry_id,
        "seconds": round(seconds, 3),
    }


def _failure_as_json(to_wxid: str, outcome: str, error: GeweCacheError, seconds: float) -> dict[str, Any]:
    ret = error.ret if isinstance(error, GeweRefused) else None
    return {
        "to_wxid": to_wxid,
        "outcome": outcome,
        "error": type(error).__name__,
        "ret": ret,
        "message": describe_error(error),
        "seconds": round(seconds, 3),
    }
