"""The shapes of answers and uploads, for OpenAPI and docs/server.md."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from sfumato.server.jobs import State, Video
from sfumato.server.portraits import Entry, Kind
from sfumato.server.voices import Voice

_OBJECT = "multipart/form-data"


class Failure(BaseModel):
    """What went wrong, in one line, with the cure."""

    error: str


class PortraitAnswer(BaseModel):
    """A portrait that is ready to speak."""

    id: str
    name: str
    kind: Kind
    size: int = Field(description="side of live pictures in pixels")
    warnings: list[str] = Field(description="what may look wrong with this photo")
    picture: str = Field(description="address of a small JPEG")

    @staticmethod
    def of(entry: Entry) -> PortraitAnswer:
        """What is told of a portrait."""
        return PortraitAnswer(
            id=entry.id,
            name=entry.name,
            kind=entry.kind,
            size=entry.avatar.portrait.canvas.size,
            warnings=entry.avatar.warnings,
            picture=f"/api/portraits/{entry.id}/picture",
        )


class PortraitList(BaseModel):
    """All portraits, the built-in one first."""

    portraits: list[PortraitAnswer]


class VideoAnswer(BaseModel):
    """A video and how far it is."""

    id: str
    state: State
    progress: float = Field(description="0 to 1")
    seconds_left: float | None = Field(description="until it is done, where that is known")
    error: str | None = Field(description="why it failed")
    file: str | None = Field(description="address of the MP4, once done")

    @staticmethod
    def of(video: Video) -> VideoAnswer:
        """What is told of a video."""
        left = video.seconds_left
        return VideoAnswer(
            id=video.id,
            state=video.state,
            progress=round(video.progress, 3),
            seconds_left=None if left is None else round(left, 1),
            error=video.error,
            file=f"/api/videos/{video.id}/file" if video.state == State.DONE else None,
        )


class VoiceAnswer(BaseModel):
    """A voice that can speak texts."""

    name: str
    label: str
    language: str

    @staticmethod
    def of(voice: Voice) -> VoiceAnswer:
        """What is told of a voice."""
        return VoiceAnswer(name=voice.name, label=voice.label, language=voice.language)


class VoiceList(BaseModel):
    """All voices, and who speaks when none is chosen."""

    voices: list[VoiceAnswer]
    default: str | None


class Sessions(BaseModel):
    """Live sessions."""

    live: int
    allowed: int
    free: int


class Waiting(BaseModel):
    """Videos that are not done."""

    queued: int
    running: int


class Health(BaseModel):
    """The server is up, and how busy it is."""

    status: Literal["ok"]
    version: str
    sessions: Sessions
    videos: Waiting


class Ready(BaseModel):
    """Live sessions that could begin now."""

    free: int


class IceServer(BaseModel):
    """A relay and what it asks for."""

    urls: list[str]
    username: str = Field(description="until when it holds, in seconds since 1970")
    credential: str


class IceAnswer(BaseModel):
    """What a browser takes as RTCConfiguration."""

    iceServers: list[IceServer]


def upload(required: list[str], **parts: str) -> dict[str, Any]:
    """OpenAPI's words for a multipart upload.

    Args:
        required: parts that must come.
        parts: name -> "file" or what the text of a field means.
    """
    properties = {
        name: {"type": "string", "format": "binary"}
        if meaning == "file"
        else {"type": "string", "description": meaning}
        for name, meaning in parts.items()
    }
    schema = {"type": "object", "required": required, "properties": properties}
    return {"requestBody": {"required": True, "content": {_OBJECT: {"schema": schema}}}}


def failures(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's words for the errors of a request."""
    return {status: {"model": Failure} for status in statuses}
