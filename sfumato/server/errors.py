"""Errors of requests."""

from __future__ import annotations

from sfumato.errors import SfumatoError


class RequestError(SfumatoError):
    """A request that is refused.

    Attributes:
        status: of HTTP.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
