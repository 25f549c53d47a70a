"""What a live session needs of the place where it is held: the server itself, or a worker of it."""

from __future__ import annotations

from typing import Protocol

from sfumato.avatar import Avatar
from sfumato.server.metrics import Metrics
from sfumato.server.recording import Recordings
from sfumato.server.settings import ServerSettings
from sfumato.server.voices import Voices


class Faces(Protocol):
    """Who can speak."""

    @property
    def first(self) -> str:
        """Id of the portrait that speaks when none was chosen."""

    async def get(self, name: str) -> Avatar:
        """The avatar of an id.

        Raises:
            UnknownPortraitError: There is none.
        """


class Room(Protocol):
    """The place; attributes as those of :class:`sfumato.server.house.House`."""

    @property
    def settings(self) -> ServerSettings: ...
    @property
    def portraits(self) -> Faces: ...
    @property
    def recordings(self) -> Recordings: ...
    @property
    def voices(self) -> Voices: ...
    @property
    def metrics(self) -> Metrics: ...
