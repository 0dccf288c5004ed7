"""A bot on opengewe with or without the cache: tells what each send of a scenario came to."""

# mypy: ignore-errors
import asyncio
import inspect
import sys

from opengewe.client import GeweClient
from serving import serve, tell

from gewe_cache import cached


class Scenarios:
    """What a test can have the bot do."""

    def __init__(self, plan):
        """Make a client."""
        self.plan = plan
        self.client = GeweClient(plan["base_url"], app_id=plan["app_id"], token=plan["token"], delay=0)
        if plan["cached"]:
            assert cached(self.client, **plan["options"]) is self.client

    async def send(self, to_wxid):
        """Send, and tell what came of it as a caller sees it."""
        answer = await self.client.message.post_image(to_wxid, self.plan["image"])
        return {"answer" if answer["ret"] == 200 else "error": answer}

    async def in_turn(self):
        """Send to one after the other."""
        return [await self.send(to_wxid) for to_wxid in self.plan["to"]]

    async def at_once(self):
        """Send from as many tasks."""
        return await asyncio.gather(*(self.send(to_wxid) for to_wxid in self.plan["to"]))

    async def queued(self):
        """Send by the client's own queue."""
        image = self.plan["image"]
        return [{"answer": await self.client.send_image_message(to_wxid, image)} for to_wxid in self.plan["to"]]

    async def with_a_new_token(self):
        """Send with a token, then with another."""
        first, *rest = self.plan["to"]
        told = [await self.send(first)]
        self.client.set_token(self.plan["new_token"])
        return [*told, *[await self.send(to_wxid) for to_wxid in rest]]

    async def given_up(self):
        """Give a send up when the test says so, as ``wait_for`` does when it lasts too long, and retry."""
        task = asyncio.create_task(self.send(self.plan["to"][0]))
        await asyncio.to_thread(sys.stdin.readline)
        task.cancel()
        (cancelled,) = await asyncio.gather(task, return_exceptions=True)
        tell(type(cancelled).__name__)
        return await self.in_turn()

    async def on_a_second_loop(self):
        """Send on this loop, and then on another while this one is still there."""
        first, second = self.plan["to"]
        return [await self.send(first), await asyncio.to_thread(lambda: asyncio.run(self.send(second)))]

    async def after_its_close(self):
        """Send, close, and send again."""
        return [*await self.closing(self.in_turn), *await self.in_turn()]

    async def described(self):
        """Tell what is seen of the client, and what another of its methods does."""
        return [
            type(self.client).__qualname__,
            isinstance(self.client, GeweClient),
            sorted({*vars(self.client)} - {"close"}),
            list(inspect.signature(self.client.message.post_image).parameters),
            inspect.iscoroutinefunction(self.client.message.post_image),
            inspect.iscoroutinefunction(self.client.close),
            await self.client.message.post_text("wxid_1", "text"),
        ]

    async def closing(self, scenario):
        """Perform a scenario, and close."""
        async with self.client:
            return await scenario()


def _perform(plan):
    scenarios = Scenarios(plan)
    if plan["scenario"] == "loop_after_loop":
        told = [asyncio.run(scenarios.send(to_wxid)) for to_wxid in plan["to"]]
        return told + asyncio.run(scenarios.closing(scenarios.after_its_close))
    return asyncio.run(scenarios.closing(getattr(scenarios, plan["scenario"])))


serve(_perform)
