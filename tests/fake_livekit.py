"""Rooms of LiveKit without a server: participants in one process, joined by a hub.

What runs against them is LiveKit's own: runner, synchroniser, sources, audio over data streams,
remote calls. Only the network is left out. Import it after ``pytest.importorskip``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from livekit import rtc

AGENT = rtc.ParticipantKind.PARTICIPANT_KIND_AGENT
ACTIVE = rtc.ParticipantState.PARTICIPANT_STATE_ACTIVE


class Hub:
    """One room with everybody in it."""

    def __init__(self) -> None:
        self.rooms: dict[str, FakeRoom] = {}
        self.calls: list[tuple[str, str]] = []  # of remote methods: to whom, which

    def join(self, room: FakeRoom) -> None:
        self.rooms[room.identity] = room
        for other in self.rooms.values():
            if other is not room:
                other.emit("participant_active", room.as_seen())

    def leave(self, room: FakeRoom) -> None:
        if self.rooms.pop(room.identity, None) is not None:
            for other in self.rooms.values():
                other.emit("participant_disconnected", room.as_seen())


class FakeRoom(rtc.EventEmitter[str]):
    """What one participant has of the room."""

    name = "stage"

    def __init__(self, hub: Hub, identity: str, attributes: dict[str, str] | None = None) -> None:
        super().__init__()
        self.hub = hub
        self.identity = identity
        self.connected = False
        self.streams: dict[str, Callable[[Any, str], None]] = {}
        self.local_participant = FakeParticipant(self, attributes or {})

    async def connect(self, url: str, token: str) -> None:
        self.connected = True
        self.hub.join(self)

    async def disconnect(self) -> None:
        self.connected = False
        self.hub.leave(self)

    def throw_out(self) -> None:
        """What the server does when a room is deleted, or this participant removed."""
        self.connected = False
        self.hub.leave(self)
        self.emit("disconnected", rtc.DisconnectReason.ROOM_DELETED)

    def isconnected(self) -> bool:
        return self.connected

    @property
    def remote_participants(self) -> dict[str, Any]:
        return {name: room.as_seen() for name, room in self.hub.rooms.items() if room is not self}

    def as_seen(self) -> Any:
        """This participant, for others."""
        local = self.local_participant
        return SimpleNamespace(
            identity=self.identity,
            kind=AGENT,
            state=ACTIVE,
            attributes=local.attributes,
            track_publications=local.track_publications,
        )

    def register_byte_stream_handler(self, topic: str, handler: Callable[[Any, str], None]) -> None:
        self.streams[topic] = handler


class FakeParticipant:
    """The participant itself; publishes, streams and calls."""

    def __init__(self, room: FakeRoom, attributes: dict[str, str]) -> None:
        self.room = room
        self.identity = room.identity
        self.kind = AGENT
        self.attributes = attributes
        self.track_publications: dict[str, Any] = {}
        self._rpc_handlers: dict[str, Callable[[Any], str]] = {}

    async def publish_track(self, track: rtc.Track, options: rtc.TrackPublishOptions) -> Any:
        async def wait_for_subscription() -> None:
            await asyncio.sleep(0.1)

        publication = SimpleNamespace(
            name=track.name,
            kind=track.kind,
            source=options.source,
            wait_for_subscription=wait_for_subscription,
        )
        self.track_publications[track.name] = publication
        self.room.emit("local_track_published", publication, track)
        for room in self.room.hub.rooms.values():
            if room is not self.room:
                room.emit("track_published", publication, self.room.as_seen())
        return publication

    def register_rpc_method(self, name: str, handler: Callable[[Any], str]) -> None:
        self._rpc_handlers[name] = handler

    async def perform_rpc(self, *, destination_identity: str, method: str, payload: str) -> str:
        await asyncio.sleep(0.01)
        self.room.hub.calls.append((destination_identity, method))
        there = self.room.hub.rooms[destination_identity].local_participant
        return there._rpc_handlers[method](
            SimpleNamespace(caller_identity=self.identity, payload=payload)
        )

    async def stream_bytes(
        self, *, name: str, topic: str, destination_identities: list[str], attributes: Any
    ) -> FakeStream:
        stream = FakeStream(name, attributes)
        for identity in destination_identities:
            self.room.hub.rooms[identity].streams[topic](stream, self.identity)
        return stream


class FakeStream:
    """Both ends of a stream of bytes."""

    def __init__(self, name: str, attributes: dict[str, str]) -> None:
        self.info = SimpleNamespace(attributes=attributes, stream_id=name)
        self._parts: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def write(self, data: bytes) -> None:
        self._parts.put_nowait(data)

    async def aclose(self) -> None:
        self._parts.put_nowait(None)

    async def __anext__(self) -> bytes:
        part = await self._parts.get()
        if part is None:
            raise StopAsyncIteration
        return part
