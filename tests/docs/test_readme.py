"""The READMEs say what the program does: every command, setting and exit code is in both of them."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.core import TyperGroup

from gewe_cache import errors, settings
from gewe_cache.cli import main as cli
from gewe_cache.cli.output import EXIT_CODES

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path(__file__).parents[2]
_READMES = ("README.md", "README.zh-CN.md")
_CODE_BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


@pytest.fixture(params=_READMES)
def readme(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return (_ROOT / name).read_text(encoding="utf-8")


def _code_blocks(readme: str, language: str) -> list[str]:
    return [body for found, body in _CODE_BLOCK.findall(readme) if found == language]


def _shell_lines(readme: str) -> Iterator[str]:
    for block in _code_blocks(readme, "console"):
        yield from (line.removeprefix("$ ") for line in block.splitlines())


def _commands() -> Iterator[str]:
    for name, place in cli.COMMANDS.items():
        loaded: Any = cli._load(name, place)
        if isinstance(loaded, TyperGroup):
            yield from (f"{name} {sub}" for sub, command in loaded.commands.items() if not command.hidden)
        else:
            yield name


@pytest.mark.parametrize("command", sorted(_commands()))
def test_every_command_is_named(readme: str, command: str) -> None:
    group, _, name = command.partition(" ")
    lines = [line for line in _shell_lines(readme) if f"gewe-cache {group}" in line]
    prose = readme if command == "db revision" else "\n".join(lines)
    assert re.search(rf"\b{re.escape(name or group)}\b", prose), f"gewe-cache {command} is not in the README"


@pytest.mark.parametrize(
    "command_line",
    sorted(
        {
            line
            for name in _READMES
            for line in _shell_lines((_ROOT / name).read_text(encoding="utf-8"))
            if line.startswith("gewe-cache ")
        }
    ),
)
def test_every_command_line_shown_exists_with_its_options(command_line: str) -> None:
    words = command_line.replace("|", " ").split()[1:]
    command: Any = cli._load(words[0], cli.COMMANDS[words[0]])
    if isinstance(command, TyperGroup):
        names = [word for word in words[1:] if word in command.commands]
        assert names, command_line
        command = command.commands[names[0]]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known


def test_every_setting_is_named_with_its_default(readme: str) -> None:
    package = Path(settings.__file__).parent
    source = "".join(path.read_text(encoding="utf-8") for path in package.rglob("*.py"))
    used = set(re.findall(r"\bGEWE_(?:CACHE_)?(?!CACHE_)[A-Z_]+\b", source))
    assert used
    assert {name for name in used if f"`{name}`" not in readme} == set()
    assert settings.DEFAULT_BASE_URL in readme


def test_every_exit_code_is_named(readme: str) -> None:
    assert [code for code in EXIT_CODES if f"\n| {code} |" not in readme] == []


def test_every_error_is_named(readme: str) -> None:
    public = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.GeweCacheError)
    }
    assert {name for name in public if name not in readme} == set()


def test_every_python_example_parses_and_imports_what_exists(readme: str) -> None:
    import gewe_cache  # noqa: PLC0415 - only its names

    for block in _code_blocks(readme, "python"):
        tree = (
            ast.parse(block, type_comments=True)
            if "await" not in block
            else ast.parse(f"async def _():\n{_indent(block)}")
        )
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == "gewe_cache":
                assert {alias.name for alias in node.names} <= set(gewe_cache.__all__)


def test_both_readmes_have_the_same_examples() -> None:
    english, chinese = ((_ROOT / name).read_text(encoding="utf-8") for name in _READMES)
    assert [_without_words(block) for block in _code_blocks(english, "python")] == [
        _without_words(block) for block in _code_blocks(chinese, "python")
    ]
    assert len(re.findall(r"^#+ ", english, re.MULTILINE)) == len(re.findall(r"^#+ ", chinese, re.MULTILINE))


def _without_words(block: str) -> list[str]:
    """Give an example's code without its comments and its placeholders in words."""
    return [re.sub(r"#.*|md5=\S+?\)", "", line).rstrip() for line in block.splitlines()]


def _indent(block: str) -> str:
    return "\n".join(f"    {line}" for line in block.splitlines())
