"""How long the sandbox takes for what GeWe does."""

from __future__ import annotations

from dataclasses import dataclass, fields

_BYTES_PER_MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Delays:
    """Seconds that the sandbox adds to a call, each a number of at least 0.

    Real work (the download, measuring, converting) takes its own time in addition.

    Attributes:
        download_seconds_per_mb: GeWe's download of `imgUrl`, per million bytes.
        convert_seconds_per_mb: GeWe's conversion of the image, per million bytes.
        upload_seconds_per_mb: GeWe's upload to WeChat's CDN, per million bytes.
        call_seconds: overhead of every call that is processed, of both routes.
        forward_seconds: a forward, on top of `call_seconds`.
        unfetchable_seconds: before the answer that an image cannot be fetched.

    Raises:
        ValueError: a figure is negative.
    """

    download_seconds_per_mb: float = 0.0
    convert_seconds_per_mb: float = 0.0
    upload_seconds_per_mb: float = 0.0
    call_seconds: float = 0.0
    forward_seconds: float = 0.0
    unfetchable_seconds: float = 0.0

    def __post_init__(self) -> None:
        """Refuse negative figures."""
        for field in fields(self):
            if not getattr(self, field.name) >= 0:
                message = f"{field.name} must be at least 0 seconds"
                raise ValueError(message)

    @classmethod
    def none(cls) -> Delays:
        """No delay at all: for tests."""
        return cls()

    @classmethod
    def realistic(cls) -> Delays:
        """Delays for demonstrations. **These figures are assumed**: GeWe publishes none.

        GeWe says only that a forward is "tens of times more efficient" than an upload. The one known
        figure is the last: an image that cannot be fetched is refused 30 s after the call.
        """
        return cls(
            download_seconds_per_mb=0.8,
            convert_seconds_per_mb=0.4,
            upload_seconds_per_mb=1.2,
            call_seconds=0.1,
            forward_seconds=0.05,
            unfetchable_seconds=30.0,
        )

    def scaled(self, factor: float) -> Delays:
        """Return the same delays, each `factor` times as long (0.1: ten times as fast)."""
        return Delays(**{field.name: getattr(self, field.name) * factor for field in fields(self)})

    def of_download(self, size: int) -> float:
        """Seconds for downloading `size` bytes."""
        return self.download_seconds_per_mb * size / _BYTES_PER_MB

    def of_conversion(self, size: int) -> float:
        """Seconds for converting an image of `size` bytes."""
        return self.convert_seconds_per_mb * size / _BYTES_PER_MB

    def of_cdn(self, size: int) -> float:
        """Seconds for bringing `size` bytes to the CDN."""
        return self.upload_seconds_per_mb * size / _BYTES_PER_MB
