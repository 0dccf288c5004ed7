"""A bot on NoneBot: sends an image and prints the answer as the adapter's own models have checked it."""

# mypy: ignore-errors
import asyncio
import json
import sys

import nonebot

base_url, token, app_id, to_wxid, image = sys.argv[1:]
nonebot.init(
    driver="~fastapi+~httpx",
    log_level="CRITICAL",
    gewechat_api_url=base_url,
    appid=app_id,
    wxid="wxid_bot",
    _env_file=None,
)

from nonebot.adapters.gewechat import Adapter, Bot  # noqa: E402 - needs a driver

driver = nonebot.get_driver()
adapter = Adapter(driver)
adapter.token = token  # what its start-up would fetch


async def main() -> None:
    """Send."""
    try:
        answer = await Bot(adapter, "wxid_bot").postImage(toWxid=to_wxid, imgUrl=image)
        print(json.dumps({"answer": json.loads(answer.model_dump_json())}))
    except Exception as error:  # noqa: BLE001 - whatever its parsers raise
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}))


asyncio.run(main())
