"""What the sandbox's tests share: a sandbox, an HTTP client, and GeWe's two calls spelt out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from xml.sax.saxutils import quoteattr

import httpx
import pytest

from gewe_cache.sandbox import Sandbox

Post = Callable[..., httpx.Response]

# Where threads share a client, httpx may close a surplus connection in the middle of another thread's call.
_KEEP_ALL = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=None)

SAMPLE_XML = """<?xml version="1.0"?>
<msg>
	<img aeskey={aeskey} encryver="1" cdnthumbaeskey={cdnthumbaeskey} cdnthumburl={cdnthumburl} \
cdnthumblength="2253" cdnthumbheight={cdnthumbheight} cdnthumbwidth="111" cdnmidheight="0" cdnmidwidth="0" \
cdnhdheight="0" cdnhdwidth="0" cdnmidimgurl={cdnmidimgurl} length={length} md5={md5} />
	<platform_signature></platform_signature>
	<imgdatahash></imgdatahash>
</msg>"""


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as running:
        yield running


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[httpx.Client]:
    with httpx.Client(
        base_url=sandbox.base_url,
        headers={sandbox.token_header: sandbox.token},
        timeout=20,
        trust_env=False,
        limits=_KEEP_ALL,
    ) as opened:
        yield opened


@pytest.fixture
def upload(sandbox: Sandbox, client: httpx.Client) -> Post:
    """Post an upload; keywords replace fields of the body (None leaves one out)."""
    image = sandbox.make_image("poster.png")

    def post(**changes: object) -> httpx.Response:
        body = {"appId": sandbox.app_id, "toWxid": "34757816141@chatroom", "imgUrl": image} | changes
        return client.post("/message/postImage", json={k: v for k, v in body.items() if v is not None})

    return post


@pytest.fixture
def xml_of() -> Callable[..., str]:
    """Write the XML of a forward from an upload's `data`; keywords replace attributes."""

    def write(data: Mapping[str, object], **changes: object) -> str:
        attributes = {
            "aeskey": data["aesKey"],
            "cdnthumbaeskey": data["aesKey"],
            "cdnthumburl": data["fileId"],
            "cdnmidimgurl": data["fileId"],
            "cdnthumbheight": 120,
            "length": data["length"],
            "md5": data["md5"],
        } | changes
        return SAMPLE_XML.format(**{name: quoteattr(str(value)) for name, value in attributes.items()})

    return write


@pytest.fixture
def forward(sandbox: Sandbox, client: httpx.Client) -> Post:
    """Post a forward of `xml`; keywords replace fields of the body (None leaves one out)."""

    def post(xml: object, **changes: object) -> httpx.Response:
        body = {"appId": sandbox.app_id, "toWxid": "wxid_friend", "xml": xml} | changes
        return client.post("/message/forwardImage", json={k: v for k, v in body.items() if v is not None})

    return post
