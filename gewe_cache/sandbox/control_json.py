"""The JSON form of faults and their plans."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from gewe_cache.sandbox.answers import Route
from gewe_cache.sandbox.faults import Fault
from gewe_cache.sandbox.plans import Aim, Plan


class ControlError(Exception):
    """The input to a control call cannot be used; the text says why."""


class _Field(NamedTuple):
    types: tuple[type, ...]
    required: bool = False


_MAX_DIGITS: Final = 18  # of a 64-bit integer
_ANYTHING: Final = _Field((type(None), bool, int, float, str, list, dict))
_BOOL: Final = _Field((bool,))
_BOOL_REQUIRED: Final = _Field((bool,), required=True)
_INT: Final = _Field((int,))
_TEXT: Final = _Field((str,))
_TEXT_OR_NULL: Final = _Field((str, type(None)))
_SECONDS: Final = _Field((int, float), required=True)

_PLAN_FIELDS: Final[Mapping[str, _Field]] = {
    "kind": _Field((str,), required=True),
    "times": _Field((int, type(None))),
    "route": _TEXT_OR_NULL,
    "app_id": _TEXT_OR_NULL,
    "to_wxid": _TEXT_OR_NULL,
}
_PATCH_FIELDS: Final[Mapping[str, _Field]] = {"fields": _Field((dict,)), "remove": _Field((list,))}
_FAULT_FIELDS: Final[Mapping[str, Mapping[str, _Field]]] = {
    "refuse": {"ret": _INT, "msg": _TEXT_OR_NULL, "data": _ANYTHING, "status": _INT, "delivered": _BOOL},
    "answer": {
        "body": _TEXT,
        "body_base64": _TEXT,
        "status": _INT,
        "content_type": _TEXT,
        "delivered": _BOOL,
    },
    "patch": _PATCH_FIELDS,
    "patch_top": _PATCH_FIELDS,
    "reset": {"delivered": _BOOL_REQUIRED},
    "close": {"delivered": _BOOL_REQUIRED},
    "hang": {"delivered": _BOOL_REQUIRED},
    "drip": {"interval": _SECONDS, "delivered": _BOOL_REQUIRED, "headers": _BOOL_REQUIRED},
    "cut": {"after": _Field((int,), required=True), "delivered": _BOOL},
    "slow": {"seconds": _SECONDS},
    "hold": {"delivered_first": _BOOL},
}


@dataclass(frozen=True, slots=True)
class WantedPlan:
    """A plan as a control call asks for it."""

    fault: Fault
    times: int | None
    aim: Aim


def read_plan(content: object) -> WantedPlan:
    """Read the body of `POST /sandbox/faults`.

    Raises:
        ControlError: something in it is unknown, missing, or of the wrong kind.
    """
    if not isinstance(content, dict):
        message = "the body must be a JSON object"
        raise ControlError(message)
    kind = content.get("kind")
    if not isinstance(kind, str) or kind not in _FAULT_FIELDS:
        message = "kind must be one of " + ", ".join(_FAULT_FIELDS)
        raise ControlError(message)
    arguments = {name: value for name, value in content.items() if name not in _PLAN_FIELDS}
    _check({name: content[name] for name in content.keys() & _PLAN_FIELDS.keys()}, _PLAN_FIELDS)
    _check(arguments, _FAULT_FIELDS[kind])
    try:
        fault = _builder(kind)(arguments)
    except (ValueError, OverflowError) as error:
        raise ControlError(str(error)) from error
    aim = Aim(_route(content.get("route")), content.get("app_id"), content.get("to_wxid"))
    return WantedPlan(fault, _times(content.get("times", 1)), aim)


def _check(values: Mapping[str, object], fields: Mapping[str, _Field]) -> None:
    for name, value in values.items():
        field = fields.get(name)
        if field is None:
            message = f"{name} is not known here; known are {', '.join(fields) or 'no further fields'}"
            raise ControlError(message)
        if type(value) not in field.types:
            message = f"{name} is of the wrong type ({type(value).__name__})"
            raise ControlError(message)
    for name, field in fields.items():
        if field.required and name not in values:
            message = f"{name} is missing"
            raise ControlError(message)


def _builder(kind: str) -> Callable[[dict[str, Any]], Fault]:
    if kind == "answer":
        return _answer
    if kind in ("patch", "patch_top"):
        return lambda arguments: _patch(kind, arguments)
    constructor: Callable[..., Fault] = getattr(Fault, kind)
    return lambda arguments: constructor(**arguments)


def _answer(arguments: dict[str, Any]) -> Fault:
    text, encoded = arguments.pop("body", None), arguments.pop("body_base64", None)
    if (text is None) == (encoded is None):
        message = "give either body or body_base64"
        raise ControlError(message)
    try:
        body = text.encode() if encoded is None else base64.b64decode(encoded, validate=True)
    except (binascii.Error, UnicodeError) as error:
        message = "body_base64 is not base64, or body is not Unicode"
        raise ControlError(message) from error
    return Fault.answer(body, **arguments)


def _patch(kind: str, arguments: dict[str, Any]) -> Fault:
    removed = arguments.get("remove", [])
    if not all(isinstance(name, str) for name in removed):
        message = "remove must be a list of names"
        raise ControlError(message)
    changes = {**arguments.get("fields", {}), **dict.fromkeys(removed, Fault.MISSING)}
    return Fault.patch(**changes) if kind == "patch" else Fault.patch_top(**changes)


def _route(value: object) -> Route | None:
    match value:
        case None | "upload" | "forward":
            return value
    message = "route must be upload or forward"
    raise ControlError(message)


def _times(value: int | None) -> int | None:
    if value is not None and value < 1:
        message = "times must be at least 1, or null for ever"
        raise ControlError(message)
    return value


def whole_number(text: str, name: str) -> int:
    """Read a whole number from a query parameter.

    Raises:
        ControlError: it is none.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
        message = f"{name} must be a whole number"
        raise ControlError(message)
    return int(text)


def shown_plan(plan: Plan) -> dict[str, object]:
    """Return a plan as control calls show it."""
    return {
        "number": plan.number,
        "kind": plan.fault.kind,
        "delivered": plan.fault.delivered,
        "route": plan.aim.route,
        "app_id": plan.aim.app_id,
        "to_wxid": plan.aim.to_wxid,
        "used": plan.used,
        "left": plan.left,
        "reached": plan.reached.is_set(),
    }
