"""The ASGI application: GeWe's two calls, each under both of its addresses."""

from __future__ import annotations

import asyncio
from typing import Final, cast

from starlette.types import ASGIApp, Receive, Scope, Send

from gewe_cache.sandbox import answers
from gewe_cache.sandbox.answers import Answer, Route
from gewe_cache.sandbox.entrance import Entrance, Request, read_request
from gewe_cache.sandbox.exchange import ClientGoneError, Exchange
from gewe_cache.sandbox.gewe import Gewe
from gewe_cache.sandbox.plans import Plan, Plans
from gewe_cache.sandbox.record import Call, Record

MAX_BODY_BYTES: Final = 1_000_000

_ROUTES: Final[dict[str, Route]] = {
    "/gewe/v2/api/message/postImage": "upload",
    "/gewe/v2/api/message/forwardImage": "forward",
    "/v2/api/message/postImage": "upload",
    "/v2/api/message/forwardImage": "forward",
}


class SandboxApp:
    """Serves GeWe's calls; everything else goes to `rest`. Belongs to one event loop at a time."""

    def __init__(self, entrance: Entrance, plans: Plans, record: Record, gewe: Gewe, rest: ASGIApp) -> None:
        """Put the parts together."""
        self._entrance = entrance
        self._plans = plans
        self._record = record
        self._gewe = gewe
        self._rest = rest
        self._under_way: set[asyncio.Task[object]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request."""
        route = _ROUTES.get(scope["path"])
        if route is None:
            await self._rest(scope, receive, send)
            return
        exchange = Exchange(scope, receive, send)
        if scope["method"] != "POST":
            await exchange.answer(answers.refused(f"Request method '{scope['method']}' not supported"))
            return
        await self._stoppable(route, exchange)

    def stop_calls(self) -> None:
        """End every call under way, however long it would have taken."""
        under_way, self._under_way = self._under_way, set()
        for task in under_way:
            task.cancel()

    async def _stoppable(self, route: Route, exchange: Exchange) -> None:
        # A client that goes away stops nothing, as with GeWe: only `stop_calls` cancels.
        task = cast("asyncio.Task[object]", asyncio.current_task())
        self._under_way.add(task)
        try:
            await self._serve(route, exchange)
        except ClientGoneError:
            return
        except asyncio.CancelledError:
            await exchange.reset()
        finally:
            self._under_way.discard(task)

    async def _serve(self, route: Route, exchange: Exchange) -> None:
        request = read_request(route, await exchange.read_body(MAX_BODY_BYTES))
        token = exchange.header(self._entrance.header_key)
        call = self._record.begin(
            route=route,
            app_id=request.app_id,
            to_wxid=request.to_wxid,
            img_url=request.text if route == "upload" else None,
            token_ok=self._entrance.knows_token(token),
        )
        plan = self._plans.take(route, request.app_id, request.to_wxid)
        if plan is None:
            await self._answer(call, token, request, exchange)
        else:
            await self._suffer(plan, call, token, request, exchange)

    async def _answer(self, call: Call, token: str, request: Request, exchange: Exchange) -> None:
        ret = None
        try:
            answer = await self._processed(call, token, request)
            ret = answer.ret
        finally:
            self._record.end(call, ret=ret, fault=None)
        await exchange.answer(answer)

    async def _suffer(self, plan: Plan, call: Call, token: str, request: Request, exchange: Exchange) -> None:
        fault = plan.fault
        ret = None
        try:
            answer = await self._spoilt(plan, call, token, request)
            ret = answer.ret if fault.ending == "answer" else None
        finally:
            self._record.end(call, ret=ret, fault=fault.kind)
        if fault.holds is None:
            plan.mark_reached()
        await exchange.end_as(plan, answer)

    async def _spoilt(self, plan: Plan, call: Call, token: str, request: Request) -> Answer:
        fault = plan.fault
        if fault.kind == "slow":
            await plan.wait_released(fault.seconds)
        if fault.holds == "before":
            plan.mark_reached()
            await plan.wait_released()
        processed = await self._processed(call, token, request) if fault.delivered else None
        if fault.holds == "after":
            plan.mark_reached()
            await plan.wait_released()
        return fault.shape(call.route, processed)

    async def _processed(self, call: Call, token: str, request: Request) -> Answer:
        refusal = self._entrance.refusal(call.route, token, request)
        if refusal is not None:
            return refusal
        return await self._gewe.process(call, request.text or "")
