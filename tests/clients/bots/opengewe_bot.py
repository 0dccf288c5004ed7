"""A bot on opengewe: sends an image and prints what the client gave."""

# mypy: ignore-errors
import asyncio
import json
import sys

from opengewe.client import GeweClient

base_url, token, app_id, to_wxid, image = sys.argv[1:]


async def main() -> None:
    """Send."""
    client = GeweClient(base_url, app_id=app_id, token=token)
    answer = await client.message.post_image(to_wxid, image)
    await client.close()
    print(json.dumps({"answer": answer} if answer["ret"] == 200 else {"error": json.dumps(answer)}))


asyncio.run(main())
