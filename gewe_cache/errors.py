"""Every error that gewe_cache raises, drawn whole.

::

    GeweCacheError
    ├── GeweRefused(ret, msg, data)     GeWe said no; taken as "nothing was sent"
    │   ├── TokenRefused                the token is missing, wrong or expired
    │   ├── DeviceUnavailable           the device is unknown or offline
    │   ├── RecipientUnavailable        the recipient cannot be sent to by this device
    │   ├── ImageRefused                GeWe could not fetch or use the image
    │   └── TooFast                     WeChat asks for a slower pace
    ├── GeweUnreachable                 no call went out; nothing was sent
    │   └── PublishFailed               publish= failed, so that GeWe has nowhere to fetch the image from
    ├── DeliveryUnknown                 a call went out and its answer did not come back whole
    ├── AlreadyBroadcast                the image went, or is going, to some of these recipients
    ├── InvalidImage (ValueError)       the image passed in cannot be sent
    ├── InvalidXml (ValueError)         the XML passed in is not an image message
    └── StoreError                      the database failed where it was asked for by name
        ├── SchemaOutdated              it lacks a migration; the message names the command
        └── SchemaUnknown               it is newer than this package

After ``GeweRefused`` or ``GeweUnreachable`` a caller may send again. After ``DeliveryUnknown`` a person
should look at the chat first. No error carries a token or an ``aes_key``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from gewe_cache.text import one_line

if TYPE_CHECKING:
    from datetime import datetime

    from gewe_cache.gewe.wire import Reply
    from gewe_cache.image import Route


class GeweCacheError(Exception):
    """The root of every error that gewe_cache raises by itself."""


class GeweRefused(GeweCacheError):
    """GeWe answered and refused. Taken as "nothing was sent": our assumption, GeWe does not say it.

    Attributes:
        ret: GeWe's code, or the HTTP status where the body had none.
        msg: GeWe's words, or None where it said nothing.
        data: the answer's ``data`` as it came, secrets masked.
        route: the route of the call that was refused, or None where another process made it.
        reply: GeWe's JSON as it came, for who passes it on to the account's own client; None where it is not
            known. It may repeat the token: it is in no text of the error, and stays behind when it is pickled.
    """

    advice = "Nothing was sent. The words above are GeWe's own; mend the cause and send again."

    def __init__(self, ret: int, msg: str | None = None, data: Any = None) -> None:  # noqa: ANN401 - any JSON
        """Keep GeWe's own words."""
        super().__init__(ret, msg, data)
        self.ret = ret
        self.msg = msg
        self.data = data
        self.route: Route | None = None
        self.reply: Reply | None = None

    def again(self) -> Self:
        """Give the same refusal as an error of its own, for another who waited for the same call."""
        same = type(self)(self.ret, self.msg, self.data)
        same.route, same.reply = self.route, self.reply
        return same

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy everything but the reply, which may repeat the token."""
        return type(self), self.args, {**vars(self), "reply": None}

    @property
    def words(self) -> str:
        """What GeWe said, in one line: its ``msg`` and the cause in ``data``."""
        said = one_line(self.msg) or "no reason given"
        if not isinstance(self.data, dict):
            return said
        code, cause = self.data.get("code"), self.data.get("msg")
        details = [one_line(part) for part in (code, cause) if part is not None]
        return f"{said} ({': '.join(details)})" if details else said

    def __str__(self) -> str:
        """Say what happened, that nothing was sent, and what to do."""
        return f"GeWe refused with ret {self.ret}: {self.words}. {self.advice}"


class TokenRefused(GeweRefused):
    """The token is missing, wrong or expired."""

    advice = "Nothing was sent. Pass a valid token (GEWE_TOKEN, or token=) and send again."


class DeviceUnavailable(GeweRefused):
    """The device (``app_id``) is unknown to GeWe or offline."""

    advice = "Nothing was sent. Check app_id (GEWE_APP_ID, or app_id=) and that the device is logged in."


class RecipientUnavailable(GeweRefused):
    """The device cannot send to this recipient: not a friend, not in the group, or no such chat."""

    advice = "Nothing was sent. Check to_wxid, and that this device may write to that chat."


class ImageRefused(GeweRefused):
    """GeWe could not fetch the image, or not use what it fetched."""

    advice = "Nothing was sent. Check that GeWe's server can reach the URL and that it is an image."


class TooFast(GeweRefused):
    """WeChat asks this device for a slower pace."""

    advice = "Nothing was sent. Wait, then send more slowly from this device."


class GeweUnreachable(GeweCacheError):
    """No call went out for this send: nothing was sent, and it may be tried again."""


class PublishFailed(GeweUnreachable):
    """The function passed as ``publish=`` failed. Nothing was sent.

    What the function raised is its ``__cause__``. Where it returns no usable URL, ``InvalidImage`` is raised.
    """


class DeliveryUnknown(GeweCacheError):
    """A call went out and no clear answer came back: the message may or may not have been sent.

    gewe_cache never sends such a message again by itself.

    Attributes:
        to_wxid: the recipient.
        app_id: the device.
        route: ``"upload"`` or ``"forward"``.
        started_at: when the call went out, aware UTC.
        reason: what came back instead of an answer.
    """

    def __init__(self, to_wxid: str, app_id: str, route: str, started_at: datetime, reason: str = "") -> None:
        """Keep what is needed to look for the message."""
        super().__init__(to_wxid, app_id, route, started_at, reason)
        self.to_wxid = to_wxid
        self.app_id = app_id
        self.route = route
        self.started_at = started_at
        self.reason = reason

    def __str__(self) -> str:
        """Say that it may have been sent, and where to look."""
        return (
            f"It is unknown whether the image reached {one_line(self.to_wxid)}: the {self.route} of device "
            f"{one_line(self.app_id)}, begun {self.started_at:%Y-%m-%d %H:%M:%S} UTC, ended without a clear answer"
            f"{f' ({one_line(self.reason)})' if self.reason else ''}. It is not sent again by itself. "
            f"Look into that chat on the device; send again only if the image is not there."
        )


class AlreadyBroadcast(GeweCacheError):
    """The image went, or is going, to some of the recipients by another broadcast of the last 24 hours.

    Nothing was sent.

    Attributes:
        recipients: to how many.
        broadcast_ids: by which broadcasts.
    """

    def __init__(self, recipients: int, broadcast_ids: tuple[int, ...]) -> None:
        """Keep what the caller needs to look at the other broadcasts."""
        super().__init__(recipients, broadcast_ids)
        self.recipients = recipients
        self.broadcast_ids = broadcast_ids

    def __str__(self) -> str:
        """Say to how many, and what to do."""
        ids = ", ".join(str(each) for each in self.broadcast_ids)
        return (
            f"Nothing was sent: within 24 hours this image went, or is going, to {self.recipients} of these "
            f"recipients by broadcast {ids}. To go on with that one: gewe-cache broadcast resume "
            f"{self.broadcast_ids[0]}. To send it once more to all: --again (again=True)."
        )


class InvalidImage(GeweCacheError, ValueError):
    """The image passed in cannot be sent; nothing was sent. The message names the field."""


class InvalidXml(GeweCacheError, ValueError):
    """The XML passed in is not an image message that can be forwarded. Nothing was kept."""


class StoreError(GeweCacheError):
    """The database failed where its answer was asked for by name, or cannot be used as it is."""


class SchemaOutdated(StoreError):
    """The database lacks a migration. Nothing was sent; the message names the command that mends it."""


class SchemaUnknown(StoreError):
    """The database was made by a newer gewe_cache. Nothing was sent; upgrade the package."""
