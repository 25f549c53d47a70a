"""How many faces a machine carries at full rate, and who has a seat."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from sfumato import machine
from sfumato.avatar import Avatar
from sfumato.errors import SfumatoError
from sfumato.media.image import jpeg
from sfumato.render.badge import marked
from sfumato.stream import Stream
from sfumato.timebase import FPS, SAMPLES_PER_FRAME

PATIENCE = 1.5  # seconds that a visitor waits for a seat
_SHARE = 0.8  # of the frames that sessions may want: the rest is for sending, and for breath
_FRAMES = FPS  # for every core


class FullError(SfumatoError):
    """All sessions that the machine carries are taken."""


class Seats:
    """Sessions at a time: whoever comes when all are taken is refused, and the others stay fluent.

    Args:
        count: sessions that are allowed.

    Attributes:
        count: sessions that are allowed; taken: that run.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.taken = 0
        self._waiting: list[asyncio.Event] = []

    async def settle(self) -> None:
        """Wait a moment where all are taken: who reloads a page comes before the old one went."""
        if self.taken >= self.count:
            freed = asyncio.Event()
            self._waiting.append(freed)
            try:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(freed.wait(), PATIENCE)
            finally:
                if freed in self._waiting:  # nobody has left meanwhile
                    self._waiting.remove(freed)

    def resize(self, count: int) -> None:
        """Allow so many from now on; sessions that run go on."""
        self.count = count
        self._call()

    @contextlib.contextmanager
    def take(self) -> Iterator[None]:
        """A seat, given back at the end.

        Raises:
            FullError: There is none.
        """
        if self.taken >= self.count:
            if not self.count:
                raise FullError("Live sessions are being started anew: try again in a moment.")
            raise FullError(
                f"All {self.count} live sessions that this machine carries are taken: "
                "try again in a moment."
            )
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1
            self._call()

    def _call(self) -> None:
        """Those who wait look again."""
        while self._waiting:
            self._waiting.pop().set()


def carried(avatar: Avatar) -> int:
    """Sessions that this machine carries, by the frames that all cores draw side by side.

    Also warms everything up.
    """
    return sessions_for(drawn(avatar, machine.cores()))


def sessions_for(rate: float) -> int:
    """Sessions that are fluent where so many frames a second can be drawn."""
    return max(1, int(_SHARE * rate / FPS))


def drawn(avatar: Avatar, cores: int) -> float:
    """Frames a second that so many cores draw, mark and pack side by side.

    Cores that are busy together are slower than one alone; so all have to be. Processes that share
    a machine measure at the same time.
    """
    streams = [avatar.stream(seed=number) for number in range(cores)]
    sound = np.random.default_rng(0).normal(0, 0.05, SAMPLES_PER_FRAME).astype(np.float32)

    def draw(stream: Stream, frames: int) -> None:
        for _ in range(frames):
            for frame in stream.push(sound):
                jpeg(marked(frame.image))

    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(draw, streams, [stream.latency_frames + 5 for stream in streams]))
        start = time.perf_counter()
        list(pool.map(draw, streams, [_FRAMES] * cores))
        return cores * _FRAMES / (time.perf_counter() - start)
