"""A bot on gewechat-client with or without the cache: tells what each send of a scenario came to."""

# mypy: ignore-errors
import inspect
from concurrent.futures import ThreadPoolExecutor

from gewechat_client import GewechatClient
from serving import serve

from gewe_cache import cached


class Client(GewechatClient):
    """A bot's own."""


class Scenarios:
    """What a test can have the bot do."""

    def __init__(self, plan):
        """Make a client."""
        self.plan = plan
        self.client = Client(plan["base_url"], plan["token"])
        if plan["cached"]:
            assert cached(self.client, **plan["options"]) is self.client

    def send(self, to_wxid):
        """Send, and tell what came of it as a caller sees it."""
        try:
            return {"answer": self.client.post_image(self.plan["app_id"], to_wxid, self.plan["image"])}
        except Exception as error:  # noqa: BLE001 - its kind is part of what is told
            return {"error": [type(error).__name__, str(error)], "cause": type(error.__cause__).__name__}

    def in_turn(self):
        """Send to one after the other."""
        return [self.send(to_wxid) for to_wxid in self.plan["to"]]

    def at_once(self):
        """Send from as many threads."""
        with ThreadPoolExecutor(len(self.plan["to"])) as threads:
            return list(threads.map(self.send, self.plan["to"]))

    def with_a_new_token(self):
        """Send with a token, then with another."""
        first, *rest = self.plan["to"]
        told = [self.send(first)]
        self.client._message_api.token = self.plan["new_token"]
        return [*told, *(self.send(to_wxid) for to_wxid in rest)]

    def described(self):
        """Tell what is seen of the client, and what another of its methods does."""
        try:
            other = self.client.post_text(self.plan["app_id"], "wxid_1", "text")
        except RuntimeError as error:
            other = str(error)
        return [
            type(self.client).__qualname__,
            isinstance(self.client, GewechatClient),
            sorted(vars(self.client)),
            str(inspect.signature(self.client.post_image)),
            list(inspect.signature(self.client._message_api.post_image).parameters),
            other,
        ]

    def misused(self):
        """Tell how wrong uses end."""
        base_url = self.plan["base_url"]
        return [
            _raised(lambda: cached(self.client)),
            _raised(lambda: cached(object())),
            _raised(lambda: cached(GewechatClient("no URL", "token"))),
            _raised(lambda: cached(GewechatClient(base_url, ""), timeout=-1)),
            _raised(lambda: cached(GewechatClient(base_url, "token"), refresh=True)),
        ]


def _raised(act):
    try:
        act()
    except (TypeError, ValueError) as error:
        return [type(error).__name__, str(error)]


serve(lambda plan: getattr(Scenarios(plan), plan["scenario"])())
