"""A face that lives in real time: sound in as it comes, frames out at an even rate, without end.

The only place with threads and a clock. A worker takes 40 ms of sound after the other from the
:class:`~sfumato.inbox.Inbox`, silence where nobody speaks, and has their frames drawn, two at a
time where one takes longer than 40 ms; who iterates the session gets them in their order, two at
most in waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType

import cv2
import numpy as np
from numpy.typing import NDArray

from sfumato.avatar import Avatar
from sfumato.controls import EASE, MotionOptions, glide
from sfumato.inbox import Inbox, Piece
from sfumato.pace import Pace, Quality
from sfumato.render.badge import marked
from sfumato.stream import Cue
from sfumato.timebase import SAMPLE_RATE, SAMPLES_PER_FRAME

Image = NDArray[np.uint8]
Samples = NDArray[np.float32]

QUEUE = 2  # frames that are being made, or wait for a slow taker


@dataclass(frozen=True)
class LiveFrame:
    """A frame that is due now.

    Attributes:
        index: number of the frame since the session began, 25 a second.
        image: (S, S, 3) uint8 RGB, visibly marked as generated.
        samples: (640,) float32 of its sound.
        speech: how many of these were pushed; 0 is the silence of an idle face.
        ends: the last frame of a segment, see :meth:`LiveSession.end_segment`.
        fresh: False repeats the picture before, as the machine is too slow.
        delay: seconds from the push of its last sample to now; None for silence.
        photo: SHA-256 of the photo that it shows.
    """

    index: int
    image: Image
    samples: Samples
    speech: int
    ends: bool
    fresh: bool
    delay: float | None
    photo: str


@dataclass
class _Making:
    """A frame on its way.

    Attributes:
        cue: what is to be drawn.
        piece: its sound.
        fresh: it gets a picture of its own.
        photo: SHA-256 of the photo that a fresh picture shows.
        began: when its sound was taken, on the inbox' clock.
        image: the picture, once it is drawn.
    """

    cue: Cue
    piece: Piece
    fresh: bool
    photo: str
    began: float
    image: Image | None = None


class LiveSession:
    """One face, live. An async context manager; iterate it for frames.

        async with LiveSession(avatar) as session:
            session.push(samples)  # whenever there are some
            async for frame in session:
                show(frame.image), play(frame.samples)

    All methods may be called from any thread and return at once; what they ask shows in the next
    frame that is made.

    Args:
        avatar: who speaks.
        seed: of everything that chance decides.
        options: how the motion begins.
        on_quality: called from the worker when the machine gets too slow, or fast enough again.

    Attributes:
        latency_frames: frames of sound after a frame that must be heard before it is made.
    """

    def __init__(
        self,
        avatar: Avatar,
        *,
        seed: int = 0,
        options: MotionOptions | None = None,
        on_quality: Callable[[Quality], None] | None = None,
    ) -> None:
        self._inbox = Inbox()
        self._stream = avatar.stream(seed=seed, options=options)
        self._shown = avatar.digest  # from now on; frames in the making know their own
        self._size = avatar.portrait.canvas.size
        self._on_quality = on_quality
        self._pace = Pace(lanes=self._stream.lanes)
        self._pool = ThreadPoolExecutor(self._stream.lanes, "sfumato-draw")
        self._heard: deque[Piece] = deque()
        self._epoch = self._inbox.epoch
        self._orders: deque[Callable[[], None]] = deque()
        self._changed = threading.Condition()  # guards all below
        self._making: deque[_Making] = deque()
        self._took: deque[float] = deque()  # seconds that pictures took, not looked at yet
        self._last: LiveFrame | None = None
        self._out: deque[LiveFrame] = deque()
        self._closed = False
        self._failure: Exception | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()
        self._thread = threading.Thread(target=self._work, name="sfumato-live", daemon=True)
        self.latency_frames = self._stream.latency_frames

    async def __aenter__(self) -> LiveSession:
        self._loop = asyncio.get_running_loop()
        self._thread.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
        await asyncio.to_thread(self._thread.join)

    def __aiter__(self) -> AsyncIterator[LiveFrame]:
        return self

    async def __anext__(self) -> LiveFrame:
        """The next frame, when it is due.

        Raises:
            StopAsyncIteration: The session is closed.
        """
        while True:
            with self._changed:
                if self._failure is not None:
                    raise self._failure
                if self._closed:
                    raise StopAsyncIteration
                if self._out:
                    self._changed.notify_all()
                    return self._out.popleft()
                self._wake.clear()
            await self._wake.wait()

    @property
    def quality(self) -> Quality:
        """What the machine is fast enough for."""
        return self._pace.quality

    @property
    def waiting(self) -> float:
        """Seconds of sound that were pushed and not taken yet."""
        return self._inbox.seconds

    @property
    def skipped(self) -> float:
        """Seconds of a microphone's sound that were left out so far."""
        return self._inbox.skipped / SAMPLE_RATE

    @property
    def options(self) -> MotionOptions:
        """How the face moves now."""
        return self._stream.options.at(self._stream.seconds)

    def push(self, samples: Samples, *, realtime: bool = False) -> None:
        """Sound to be spoken.

        Args:
            samples: (n,) float32 mono at 16 kHz in [-1, 1]; any n.
            realtime: it is heard as it happens (a microphone) and spoken as it comes; when the
                machine falls behind, the oldest is left out. Otherwise it may come faster than it
                is spoken, and waits.
        """
        self._inbox.push(samples, realtime=realtime)

    def end_segment(self) -> None:
        """What was pushed so far is a whole: its last frame will say ``ends``."""
        self._inbox.end()

    def interrupt(self) -> None:
        """Fall silent: sound that waits is dropped, and the lips are at rest within 0.25 s."""
        self._inbox.clear()
        with self._changed:
            self._out = deque(frame for frame in self._out if not (frame.speech or frame.ends))
            self._changed.notify_all()

    def steer(self, options: MotionOptions, seconds: float = EASE) -> None:
        """Move otherwise from now on; the change takes so many seconds."""
        stream = self._stream

        def order() -> None:
            now = stream.seconds
            stream.options = glide(stream.options.at(now), options, now, seconds)

        self._orders.append(order)

    def show(self, avatar: Avatar) -> None:
        """Another face goes on with the same motion; its pictures are brought to the same size."""

        def order() -> None:
            self._shown, self._stream.renderer = avatar.digest, avatar.renderer

        self._orders.append(order)

    def close(self) -> None:
        """End the session; who iterates it stops."""
        self._inbox.close()
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._call_taker()

    def _call_taker(self) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody takes any more
                self._loop.call_soon_threadsafe(self._wake.set)

    def _work(self) -> None:
        try:
            for _ in range(self.latency_frames):
                self._hear(_silence(self._epoch))
            while self._failure is None and (piece := self._inbox.take()) is not None:
                while self._orders:
                    self._orders.popleft()()
                self._hear(piece)
                self._keep_pace()
                self._wait_for_room()
        except Exception as error:
            self._fail(error)
        finally:
            self._pool.shutdown(cancel_futures=True)

    def _fail(self, error: Exception) -> None:
        """Hand it to whoever takes the frames."""
        with self._changed:
            self._failure = self._failure or error
            self._changed.notify_all()
        self._call_taker()

    def _hear(self, piece: Piece) -> None:
        """Take one frame's sound; begin the frame that it completes."""
        began = self._inbox.clock()
        epoch = self._inbox.epoch
        if epoch != self._epoch:
            self._epoch = epoch
            self._stream.interrupt()
            self._heard = deque(_silence(epoch) for _ in self._heard)
        if piece.epoch != epoch:  # cleared since it was taken
            piece = _silence(epoch)
        self._heard.append(piece)
        for cue in self._stream.hear(piece.samples):
            made = _Making(cue, self._heard.popleft(), self._pace.fresh, self._shown, began)
            with self._changed:
                self._making.append(made)
            if made.fresh:
                self._pool.submit(self._draw, made, self._pace.quality == Quality.PLAIN)
            else:
                self._put_out()

    def _draw(self, made: _Making, plain: bool) -> None:
        try:
            frame = self._stream.draw(made.cue, plain=plain)
            image = marked(_sized(frame.image, self._size))
        except Exception as error:
            self._fail(error)
            return
        with self._changed:
            made.image = image
            self._took.append(self._inbox.clock() - made.began)
        self._put_out()

    def _put_out(self) -> None:
        """Put out what is made, in its order."""
        with self._changed:
            while self._making and (self._making[0].image is not None or not self._making[0].fresh):
                self._last = self._finished(self._making.popleft())
                self._out.append(self._last)
            self._changed.notify_all()
        self._call_taker()

    def _finished(self, made: _Making) -> LiveFrame:
        """What is put out; without a picture of its own it shows the one before."""
        piece, image, photo = made.piece, made.image, made.photo
        if image is None:
            assert self._last is not None  # a session begins with a picture
            image, photo = self._last.image, self._last.photo
        dropped = piece.epoch != self._inbox.epoch  # cleared while it was drawn
        return LiveFrame(
            index=made.cue.index,
            image=image,
            samples=np.zeros_like(made.cue.samples) if dropped else made.cue.samples,
            speech=0 if dropped else piece.speech,
            ends=piece.ends and not dropped,
            fresh=made.fresh,
            delay=None if piece.pushed is None else self._inbox.clock() - piece.pushed,
            photo=photo,
        )

    def _wait_for_room(self) -> None:
        """Who takes frames slowly makes the face slow; no time is made up for afterwards."""
        with self._changed:
            slow_taker = False
            while not (self._roomy() or self._closed or self._failure):
                slow_taker |= len(self._out) >= QUEUE
                self._changed.wait()
        if slow_taker:
            self._inbox.restart()

    def _roomy(self) -> bool:
        making = len(self._making)
        return making < self._stream.lanes and making + len(self._out) < QUEUE

    def _keep_pace(self) -> None:
        with self._changed:
            took, self._took = self._took, deque()
        before = self._pace.quality
        for seconds in took:
            self._pace = self._pace.drawn(seconds)
        self._pace = self._pace.after()
        if self._pace.quality != before and self._on_quality is not None:
            self._on_quality(self._pace.quality)


def _silence(epoch: int) -> Piece:
    return Piece(np.zeros(SAMPLES_PER_FRAME, np.float32), epoch=epoch)


def _sized(image: Image, size: int) -> Image:
    if image.shape[0] == size:
        return image
    return np.asarray(cv2.resize(image, (size, size), interpolation=cv2.INTER_CUBIC), np.uint8)
