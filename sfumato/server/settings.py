"""How a server is set up."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Limit:
    """What an upload may be.

    Attributes:
        size: bytes at most.
        seconds: in which all of it must have arrived.
    """

    size: int
    seconds: float


@dataclass(frozen=True)
class ServerSettings:
    """What ``sfumato serve`` can be told, and limits that keep strangers from filling the machine.

    Attributes:
        portraits: photos to offer beside the built-in one.
        sessions: live sessions at a time; None is what this machine was measured to carry.
        workers: processes that run them; fewer than two: they run in the server's own.
        threads: cores to use; 0 takes all.
        voices: folder with voices of piper.
        size: side of live pictures, 256 to 1024, a multiple of 8.
        hostnames: names under which the server may be asked; None is any.
        photo, recording: limits of uploads.
        uploaded: portraits kept of what visitors uploaded.
        waiting: videos that may wait to be made.
        kept: seconds for which finished videos and recordings can be fetched.
        longest: seconds of a recording that becomes a video.
        turn: addresses of relays for WebRTC, see docs/server.md.
        turn_secret: what these share with this server.
    """

    portraits: tuple[Path, ...] = ()
    sessions: int | None = None
    workers: int = 0
    threads: int = 0
    voices: Path | None = None
    size: int = 512
    hostnames: tuple[str, ...] | None = None
    photo: Limit = Limit(20_000_000, 30.0)
    recording: Limit = Limit(200_000_000, 300.0)
    uploaded: int = 8
    waiting: int = 8
    kept: float = 3600.0
    longest: float = 3600.0
    turn: tuple[str, ...] = ()
    turn_secret: str = field(default="", repr=False)
