"""A bot on gewechat-client: sends an image and prints what the client gave, or what it raised."""

# mypy: ignore-errors
import json
import sys

from gewechat_client import GewechatClient

base_url, token, app_id, to_wxid, image = sys.argv[1:]
try:
    answer = GewechatClient(base_url, token).post_image(app_id, to_wxid, image)
    print(json.dumps({"answer": answer}))
except RuntimeError as error:
    print(json.dumps({"error": str(error)}))
