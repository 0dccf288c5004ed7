"""What the page says, in English and in Chinese; starlette-admin brings its own words in both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from babel.support import LazyProxy
from starlette_admin.i18n import get_locale

from gewe_cache.server.admin.chinese import CHINESE
from gewe_cache.text import human_age

if TYPE_CHECKING:
    from datetime import timedelta

LANGUAGES: Final = ("en", "zh")

_UNITS = {"d": "天", "h": "小时", "m": "分", "s": "秒"}


def say(text: str, **values: object) -> str:
    """Give a text in the language of the request."""
    chosen = CHINESE[text] if get_locale() == "zh" else text
    return chosen.format(**values) if values else chosen


def later(text: str) -> str:
    """Give a text that is put in the request's language when it is shown."""
    return cast("str", LazyProxy(say, text, enable_cache=False))  # it behaves like one


def say_age(age: timedelta | float | None) -> str:
    """Give a duration by its two largest units."""
    shown = human_age(age, coarse=True)
    return "".join(_UNITS.get(letter, letter) for letter in shown) if get_locale() == "zh" else shown


def choose_language(accepted: str) -> str:
    """Choose by an Accept-Language header; English where neither is named."""
    weighted = [_weight(each) for each in accepted.lower().split(",")[:20]]
    best = max(
        ((weight, language) for weight, language in weighted if language in LANGUAGES),
        key=lambda each: each[0],
        default=(0.0, LANGUAGES[0]),
    )
    return best[1]


def _weight(accepted: str) -> tuple[float, str]:
    name, _, weight = accepted.partition(";q=")
    try:
        value = float(weight or 1)
    except ValueError:
        value = 0.0
    return value, name.strip().partition("-")[0]
