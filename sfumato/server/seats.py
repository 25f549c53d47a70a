"""How many faces a machine carries at full rate, and who has a seat."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Iterator

import numpy as np

from sfumato.avatar import Avatar
from sfumato.errors import SfumatoError
from sfumato.timebase import FPS, SAMPLES_PER_FRAME

PATIENCE = 1.5  # seconds that a visitor waits for a seat
_PACKING = 0.005  # seconds of a core to pack and send a picture
_SHARE = 0.9  # of the cores that sessions may fill
_FRAMES = 2 * FPS


class FullError(SfumatoError):
    """All sessions that the machine carries are taken."""


class Seats:
    """Sessions at a time: whoever comes when all are taken is refused, and the others stay fluent.

    Args:
        count: sessions that are allowed.

    Attributes:
        count: sessions that are allowed; taken: that run; refused: visitors so far.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.taken = 0
        self.refused = 0
        self._waiting: list[asyncio.Event] = []

    async def settle(self) -> None:
        """Wait a moment where all are taken: who reloads a page comes before the old one went."""
        if self.taken >= self.count:
            freed = asyncio.Event()
            self._waiting.append(freed)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(freed.wait(), PATIENCE)

    @contextlib.contextmanager
    def take(self) -> Iterator[None]:
        """A seat, given back at the end.

        Raises:
            FullError: There is none.
        """
        if self.taken >= self.count:
            self.refused += 1
            raise FullError(
                f"All {self.count} live sessions that this machine carries are taken: "
                "try again in a moment."
            )
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1
            while self._waiting:
                self._waiting.pop().set()


def carried(avatar: Avatar) -> int:
    """Sessions that this machine carries, by what a frame costs it; also warms everything up."""
    stream = avatar.stream()
    sound = np.random.default_rng(0).normal(0, 0.05, SAMPLES_PER_FRAME).astype(np.float32)
    for _ in range(stream.latency_frames + 5):
        stream.push(sound)
    start = time.process_time()
    for _ in range(_FRAMES):
        stream.push(sound)
    cost = (time.process_time() - start) / _FRAMES + _PACKING
    return max(1, int(_SHARE * (os.cpu_count() or 1) / (FPS * cost)))
