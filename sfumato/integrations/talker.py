"""A face for a voice agent: its speech goes in as fast as it is made, pictures and the same speech
come out at the rate of life. What both frameworks need."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.avatar import Avatar
from sfumato.controls import MotionOptions
from sfumato.inbox import PERIOD
from sfumato.integrations.voice import Buffer, Cut, Samples, Voice
from sfumato.live import LiveSession
from sfumato.pace import Quality

VOICE_RATE = 24_000  # what most synthetic voices have

Image = NDArray[np.uint8]

_LEAD = PERIOD  # that running speech leaves early, so that who plays it never runs dry
_LATE = PERIOD / 2  # a frame that comes later than this moves the beat


@dataclass
class Moment:
    """What is to be shown and heard for 1/25 s.

    Attributes:
        image: (S, S, 3) uint8 RGB.
        sound: of its speech; empty in silence, shorter at the end of a segment. Marks are to be
            taken off it when they were dealt with.
        ends: a segment ends with it.
    """

    image: Image
    sound: Cut
    ends: bool


class Talker:
    """The face and its voice. All methods belong to the event loop that iterates the moments.

    Args:
        avatar: who speaks.
        rate: samples a second of the speech that comes out.
        seed, options: see :class:`~sfumato.live.LiveSession`.
        on_quality: called from another thread when the machine gets too slow, or fast enough again.

    Attributes:
        session: the face; options and portrait may be changed through it.
    """

    def __init__(
        self,
        avatar: Avatar,
        rate: int = VOICE_RATE,
        *,
        seed: int = 0,
        options: MotionOptions | None = None,
        on_quality: Callable[[Quality], None] | None = None,
    ) -> None:
        self.session = LiveSession(avatar, seed=seed, options=options, on_quality=on_quality)
        self._voice = Voice(rate)
        self._now: Moment | None = None
        self._passed = asyncio.Event()
        self._came = asyncio.Event()
        self._over = self._closed = False

    @property
    def rate(self) -> int:
        """Samples a second of the speech that comes out."""
        return self._voice.rate

    @property
    def origins(self) -> list[Any]:
        """Where the speech that waits comes from, segment by segment."""
        return self._voice.origins

    @property
    def busy(self) -> bool:
        """Whether some speech is not out yet, or more of it may come."""
        return bool(self.origins) or (self._now is not None and self._now.sound.full)

    def push(self, data: Buffer, rate: int, channels: int, origin: Any = None) -> None:
        """Speech to be spoken; another origin than before begins another segment.

        Args:
            data: int16 samples, interleaved.
            rate: samples a second, any.
            channels: how many; they are mixed into one.
            origin: comes back with it.
        """
        if self._voice.open and self.origins[-1] != origin:
            self.end()
        self._hear(self._voice.push(data, rate, channels, origin))

    def end(self) -> None:
        """The speech pushed so far is a whole. Nothing happens where there was none."""
        if self._voice.open:
            self._hear(self._voice.end())
            self.session.end_segment()

    def mark(self, thing: Any) -> bool:
        """Have a thing come with the moment in which all speech so far is out.

        Returns:
            False if it is out already.
        """
        return self._voice.mark(thing)

    def interrupt(self) -> list[Any]:
        """Fall silent; returns the marks that will not come any more."""
        if not self.busy:
            return []
        self.session.interrupt()
        lost = self._voice.clear()
        if self._now is not None:  # on its way out: the picture may pass, its words not
            lost.insert(0, self._now.sound)
            self._now.sound, self._now.ends = Cut(), False
        return [mark for sound in lost for mark in sound.marks]

    def rest(self) -> list[Cut]:
        """The speech that waits, when the face is no more."""
        return self._voice.clear()

    def close(self) -> None:
        """End it; who iterates the moments stops."""
        self.session.close()
        self._closed = True
        self._came.set()

    async def moments(self) -> AsyncGenerator[Moment, None]:
        """Everything to be shown and heard, in time, until the face is closed.

        Silence is left out, pictures never. When an interruption comes, the moment that was handed
        out last loses its sound, too: look at it just before it is used.
        """
        beat = Beat()
        try:
            async with self.session as session:
                async for frame in session:
                    sound = self._voice.take(frame.speech, frame.ends)
                    self._now = Moment(frame.image, sound, frame.ends)
                    await beat.wait(bool(frame.speech))
                    yield self._now
                    self._now = None
                    self._passed.set()
                    beat.done()
        finally:
            self._over = True
            self._passed.set()

    async def alone(self) -> AsyncGenerator[tuple[Cut, bool], None]:
        """The speech, when the face is no more: 40 ms at a time, as fast as it is taken.

        Each comes with whether a segment ends with it. Until :meth:`close`.
        """
        while not self._closed:
            if (piece := self._voice.piece()) is None:
                self._came.clear()
                await self._came.wait()
            else:
                yield piece
                self._passed.set()

    async def drained(self) -> None:
        """Return when all speech is out, or the face is no more."""
        while self.busy and not self._over:
            self._passed.clear()
            await self._passed.wait()

    def _hear(self, samples: Samples) -> None:
        if not self._over:  # nobody would take them any more
            self.session.push(samples)
        self._came.set()


class Beat:
    """When the next frame leaves: at an even rate, however unevenly frames are made.

    A taker plays pictures by their rate but sound as soon as it has some, and falls silent when it
    has none. So the first words leave on the beat, with their picture; what follows leaves one beat
    early, and is what the taker has in hand when a frame is late.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._due = clock() + PERIOD
        self._spoke = False

    async def wait(self, speaks: bool) -> None:
        """Return when the next frame, with or without speech, is to leave."""
        early = _LEAD if speaks and self._spoke else 0.0
        self._spoke = speaks
        await asyncio.sleep(max(self._due - early - self._clock(), 0.0))

    def done(self) -> None:
        """It left. Where that was too late (or its taker had no room), no time is made up for."""
        now = self._clock()
        self._due = (now if now > self._due + _LATE else self._due) + PERIOD
