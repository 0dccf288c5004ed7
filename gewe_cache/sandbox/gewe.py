"""The imagined GeWe itself: what it does with a call that nothing has spoilt."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gewe_cache.sandbox import answers
from gewe_cache.sandbox.answers import Answer
from gewe_cache.sandbox.cdn import Cdn
from gewe_cache.sandbox.delays import Delays
from gewe_cache.sandbox.download import Downloader, MalformedUrlError, UnfetchableError, check_url
from gewe_cache.sandbox.forward_xml import ForwardedImage, XmlRefusedError, read_forwarded_image
from gewe_cache.sandbox.measure import Measures, NotAnImageError, measure
from gewe_cache.sandbox.record import Call, Record

_EXPIRED: Final = answers.forward_refused("cdn信息已失效")


@dataclass(frozen=True, slots=True)
class Habits:
    """How this GeWe behaves: its delays, whether it converts, and how it words an expiry."""

    delays: Delays
    converts: bool = False
    expired_answer: Mapping[str, object] | None = None


class Gewe:
    """Uploads and forwards, and notes what it delivered."""

    def __init__(self, habits: Habits, cdn: Cdn, record: Record, downloader: Downloader) -> None:
        """Work with this CDN and this record."""
        self._habits = habits
        self._delays = habits.delays
        self._cdn = cdn
        self._record = record
        self._downloader = downloader
        self._expired = _EXPIRED if habits.expired_answer is None else Answer(habits.expired_answer)
        # Above 2**60, as GeWe's own: such ids show whoever squeezes them through a float.
        self._message_ids = itertools.count((1 << 60) + secrets.randbits(58) | 1)

    async def process(self, call: Call, text: str) -> Answer:
        """Process a call; `text` is its `imgUrl` or its `xml`."""
        await pause(self._delays.call_seconds)
        if call.route == "upload":
            return await self._upload(call, text)
        await pause(self._delays.forward_seconds)
        return self._forward(call, text)

    async def _upload(self, call: Call, url: str) -> Answer:
        try:
            check_url(url)
            content = await self._downloader.fetch(url)
        except MalformedUrlError as error:
            return answers.refused(str(error))
        except UnfetchableError:
            await pause(self._delays.unfetchable_seconds)
            return answers.failed(call.route)
        await pause(self._delays.of_download(len(content)))
        try:
            measures = await asyncio.to_thread(measure, content, converts=self._habits.converts)
        except NotAnImageError as error:
            return answers.not_an_image(str(error))
        await pause(self._delays.of_conversion(len(content)))
        await pause(self._delays.of_cdn(measures.length))
        return self._uploaded(call, measures)

    def _uploaded(self, call: Call, measures: Measures) -> Answer:
        issued = self._cdn.issue(length=measures.length, width=measures.width, height=measures.height, md5=measures.md5)
        new_msg_id = self._deliver(call, md5=issued.md5, file_id=issued.file_id)
        data = _message(call, new_msg_id, issued.aes_key, issued.file_id)
        data |= {
            "length": issued.length,
            "width": issued.width,
            "height": issued.height,
            "md5": issued.md5,
        }
        return answers.accepted(data)

    def _forward(self, call: Call, xml: str) -> Answer:
        try:
            image = read_forwarded_image(xml)
        except XmlRefusedError as error:
            return answers.forward_refused(str(error))
        issued = self._cdn.find(image.file_id)
        if issued is None:
            return answers.forward_refused("cdn信息不存在")
        if issued.aes_key != image.aes_key:
            return answers.forward_refused("aeskey错误")
        if self._cdn.is_expired(issued):
            return self._expired
        if not _fits(image, issued.length, issued.md5):
            return answers.forward_refused("length或md5与cdn信息不符")
        new_msg_id = self._deliver(call, md5=issued.md5, file_id=issued.file_id)
        data = _message(call, new_msg_id, image.aes_key, image.file_id)
        data |= {"length": None, "width": None, "height": None, "md5": None}
        return answers.accepted(data)

    def _deliver(self, call: Call, *, md5: str, file_id: str) -> int:
        new_msg_id = next(self._message_ids)
        self._record.deliver(call, md5=md5, file_id=file_id, new_msg_id=new_msg_id)
        return new_msg_id


def _fits(image: ForwardedImage, length: int, md5: str) -> bool:
    """Compare with what was issued; a length of 0 and an empty md5 stand for unknown."""
    return image.length in (0, length) and image.md5 in ("", md5)


def _message(call: Call, new_msg_id: int, aes_key: str, file_id: str) -> dict[str, object]:
    return {
        "toWxid": call.to_wxid,
        "createTime": 0,
        "msgId": new_msg_id % 2_000_000_000 + 1,
        "newMsgId": new_msg_id,
        "type": None,
        "aesKey": aes_key,
        "fileId": file_id,
    }


async def pause(seconds: float) -> None:
    """Sleep, unless there is nothing to sleep."""
    if seconds > 0:
        await asyncio.sleep(seconds)
