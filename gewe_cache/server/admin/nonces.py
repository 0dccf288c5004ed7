"""A nonce for each script of a template: what came in by data has none, and is not run."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from jinja2.ext import Extension

if TYPE_CHECKING:
    from jinja2 import Environment

_TAG: Final = re.compile(r"<script(?=[\s>])")
_WITH_NONCE: Final = '<script nonce="{{ request.state.nonce }}"'


class Nonces(Extension):
    """Works on a template's source, before it is compiled; starlette-admin's own templates are covered so."""

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:  # noqa: ARG002
        """Write the nonce into each tag."""
        return _TAG.sub(_WITH_NONCE, source)


def use_nonces(environment: Environment) -> None:
    """Have every template that is loaded from now on carry nonces."""
    environment.add_extension(Nonces)
