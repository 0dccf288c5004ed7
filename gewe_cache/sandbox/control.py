"""Control over HTTP, for those who do not speak Python; and the hosted images."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gewe_cache.sandbox.control_json import ControlError, read_plan, shown_plan, whole_number
from gewe_cache.sandbox.images import HostedImages

if TYPE_CHECKING:
    from gewe_cache.sandbox.server import Sandbox

_MAX_CONTROL_BYTES: Final = 20_000_000
_DESCRIPTION: Final = {
    "what": "An imitation of GeWe's image calls. Nothing here reaches WeChat.",
    "routes": {
        "GET /sandbox/deliveries?after=NUMBER": "what was delivered",
        "GET /sandbox/calls?after=NUMBER": "every call that arrived",
        "GET /sandbox/faults": "the faults planned",
        "POST /sandbox/faults": "plan a fault: {kind, times?, route?, app_id?, to_wxid?, …}",
        "POST /sandbox/faults/NUMBER/release": "let what the fault holds go on",
        "POST /sandbox/heal": "forget all faults",
        "POST /sandbox/expire-cdn": "expire all CDN information issued so far",
        "POST /sandbox/clear": "forget the record and all faults",
        "GET /images/NAME": "a hosted image",
    },
}


def control_app(sandbox: Sandbox, images: HostedImages) -> Starlette:
    """Return the ASGI application for everything but GeWe's own calls."""
    control = _Control(sandbox, images)
    return Starlette(
        routes=[
            Route("/images/{name:path}", control.image),
            Route("/sandbox/", control.describe),
            Route("/sandbox/deliveries", control.deliveries),
            Route("/sandbox/calls", control.calls),
            Route("/sandbox/faults", control.faults),
            Route("/sandbox/faults", control.plan_fault, methods=["POST"]),
            Route("/sandbox/faults/{number:int}/release", control.release, methods=["POST"]),
            Route("/sandbox/heal", control.heal, methods=["POST"]),
            Route("/sandbox/expire-cdn", control.expire_cdn, methods=["POST"]),
            Route("/sandbox/clear", control.clear, methods=["POST"]),
        ],
        exception_handlers={ControlError: _bad_input},
    )


async def _bad_input(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, status_code=400)


class _Control:
    def __init__(self, sandbox: Sandbox, images: HostedImages) -> None:
        self._sandbox = sandbox
        self._images = images

    async def image(self, request: Request) -> Response:
        image = self._images.get(request.path_params["name"])
        if image is None:
            return Response(status_code=404)
        return Response(image.data, headers={"content-type": image.content_type})

    async def describe(self, _: Request) -> Response:
        sandbox = self._sandbox
        return JSONResponse(
            {
                **_DESCRIPTION,
                "base_urls": [sandbox.base_url, sandbox.url + "/v2/api"],
                "token_header": sandbox.token_header,
                "app_id": sandbox.app_id,
                "calls": len(sandbox.calls),
                "deliveries": len(sandbox.deliveries),
            }
        )

    async def deliveries(self, request: Request) -> Response:
        after = whole_number(request.query_params.get("after", "0"), "after")
        return JSONResponse({"deliveries": [asdict(each) for each in self._sandbox.deliveries if each.number > after]})

    async def calls(self, request: Request) -> Response:
        after = whole_number(request.query_params.get("after", "0"), "after")
        return JSONResponse({"calls": [asdict(each) for each in self._sandbox.calls if each.number > after]})

    async def faults(self, _: Request) -> Response:
        return JSONResponse({"faults": [shown_plan(plan) for plan in self._sandbox.plans]})

    async def plan_fault(self, request: Request) -> Response:
        wanted = read_plan(await _json_body(request))
        aim = wanted.aim
        plan = self._sandbox.fail(
            wanted.fault, times=wanted.times, route=aim.route, app_id=aim.app_id, to_wxid=aim.to_wxid
        )
        return JSONResponse(shown_plan(plan), status_code=201)

    async def release(self, request: Request) -> Response:
        number: int = request.path_params["number"]
        for plan in self._sandbox.plans:
            if plan.number == number:
                plan.release()
                return JSONResponse(shown_plan(plan))
        return JSONResponse({"error": f"there is no fault {number}"}, status_code=404)

    async def heal(self, _: Request) -> Response:
        return _done(self._sandbox.heal)

    async def expire_cdn(self, _: Request) -> Response:
        return _done(self._sandbox.expire_cdn)

    async def clear(self, _: Request) -> Response:
        return _done(self._sandbox.clear)


def _done(action: Callable[[], None]) -> Response:
    action()
    return JSONResponse({"ok": True})


async def _json_body(request: Request) -> object:
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > _MAX_CONTROL_BYTES:
                message = f"the body has more than {_MAX_CONTROL_BYTES} bytes"
                raise ControlError(message)
    except ClientDisconnect as error:
        message = "the client went away"
        raise ControlError(message) from error
    try:
        content: object = json.loads(body)
        json.dumps(content, ensure_ascii=False).encode()  # half a surrogate pair could not be shown again
    except (ValueError, RecursionError) as error:
        message = "the body is not JSON"
        raise ControlError(message) from error
    return content
