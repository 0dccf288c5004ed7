"""``gewe-cache``: the command line's root. Each command is loaded when it is called, so that help comes at once."""

from __future__ import annotations

import logging
import re
import sys
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

from gewe_cache.cli.output import (
    EXIT_CODES,
    EXIT_FAILURE,
    EXIT_INTERRUPTED,
    EXIT_OK,
    complain,
    errors_as_exit_codes,
    fail,
    make_output_safe,
    print_line,
)

PROGRAM: Final = "gewe-cache"

_SINGLE_BREAK = re.compile(r"(?<!\n)\n(?!\n)")  # of a docstring: the terminal has a width of its own

_OF_EXTRAS = frozenset({"PIL", "babel", "itsdangerous", "prometheus_client", "starlette", "starlette_admin", "uvicorn"})


@dataclass(frozen=True, slots=True)
class Place:
    """Where a command is found, what the list of commands says of it, and the extra that it may need."""

    module: str
    name: str
    help: str
    extra: str = "sandbox"


COMMANDS: Final = {
    "send": Place("gewe_cache.cli.send", "send", "Send an image: uploaded once, forwarded ever after."),
    "broadcast": Place("gewe_cache.cli.broadcast", "app", "Send an image to many recipients, once to each."),
    "cache": Place("gewe_cache.cli.cache", "app", "Look into the cache and tend it."),
    "db": Place("gewe_cache.cli.db", "app", "Look at the database's schema and migrate it."),
    "serve": Place(
        "gewe_cache.cli.serve",
        "serve",
        "Run a caching proxy before GeWe: for bots in any language, whose base URL is all that changes.",
        "server",
    ),
    "sandbox": Place(
        "gewe_cache.cli.sandbox", "sandbox", "Run an imitation of GeWe's image calls on this machine, until Ctrl-C."
    ),
    "demo": Place(
        "gewe_cache.cli.demo",
        "demo",
        "Send three images to 20 chats against an imitated GeWe: each uploaded once, forwarded from then on.",
    ),
}


class LazyGroup(TyperGroup):
    """A group that knows its commands by name and loads one when it is called; its errors are one line each."""

    def __init__(self, **attributes: Any) -> None:  # noqa: ANN401 - typer's own
        """List the commands without loading them."""
        super().__init__(**attributes)
        self.commands.update({name: TyperCommand(name, help=place.help) for name, place in COMMANDS.items()})
        self._loaded: set[str] = set()

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401 - typer's own, moved between versions
        """Load the command that is called."""
        name = args[0] if args else ""
        if name in COMMANDS and name not in self._loaded:
            self.commands[name] = _load(name, COMMANDS[name])
            self._loaded.add(name)
        return super().resolve_command(ctx, args)

    def main(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - typer's own
        """Run, and end the program with one of our exit codes."""
        try:
            result = super().main(*args, **{**options, "standalone_mode": False})
        except typer.Abort:
            complain("Stopped.")
            sys.exit(EXIT_INTERRUPTED)
        except Exception as error:
            if not hasattr(error, "format_message"):
                raise
            _say_usage(error)
            sys.exit(getattr(error, "exit_code", EXIT_FAILURE))
        sys.exit(result if isinstance(result, int) else EXIT_OK)


def _epilog() -> str:
    return "Exit codes:\n\n" + "\n\n".join(f"{code}  {meaning}" for code, meaning in EXIT_CODES.items())


app = typer.Typer(
    name=PROGRAM,
    cls=LazyGroup,
    help="Upload an image to WeChat once; forward it ever after.",
    epilog=_epilog(),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(value: bool) -> None:  # noqa: FBT001 - typer passes it so
    if value:
        from gewe_cache import __version__  # noqa: PLC0415 - not needed otherwise

        print_line(f"{PROGRAM} {__version__}")
        raise typer.Exit(EXIT_OK)


@app.callback()
def root(
    *,
    verbose: Annotated[
        int, typer.Option("--verbose", "-v", count=True, show_default=False, help="Log to stderr; twice for more.")
    ] = 0,
    version: Annotated[  # noqa: ARG001 - its callback does it all
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Set up logging, of this package alone: other people's loggers may show more than they should."""
    if not verbose:
        logging.getLogger("gewe_cache").addHandler(logging.NullHandler())  # each command says by itself what is wrong
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("gewe_cache")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO if verbose == 1 else logging.DEBUG)


def main() -> None:
    """Run the command line."""
    make_output_safe()
    app(prog_name=PROGRAM)


def _load(name: str, place: Place) -> Any:  # noqa: ANN401 - typer's own, moved between versions
    with errors_as_exit_codes():
        try:
            found = getattr(import_module(place.module), place.name)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in _OF_EXTRAS:
                raise
            fail(f"{PROGRAM} {name} needs more packages. Run: pip install '{PROGRAM}[{place.extra}]'")
    if isinstance(found, typer.Typer):
        command: Any = typer.main.get_group(found)
    else:
        alone = typer.Typer(add_completion=False)
        alone.command(name)(found)
        command = typer.main.get_command(alone)
    command.name = name
    for each in (command, *getattr(command, "commands", {}).values()):
        each.help = _SINGLE_BREAK.sub(" ", each.help or "")
    return command


def _say_usage(error: Any) -> None:  # noqa: ANN401 - typer's own, moved between versions
    message = error.format_message()
    if type(error).__name__ == "NoArgsIsHelpError":
        if message:
            typer.echo(message, err=True)
        return
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else PROGRAM
    stop = "" if message.endswith((".", "?", "!")) else "."
    complain(f"{message}{stop} Try: {command} --help")


if __name__ == "__main__":
    main()
