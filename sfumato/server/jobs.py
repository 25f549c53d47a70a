"""Videos that visitors ask for: made one at a time beside live sessions, kept for a while."""

from __future__ import annotations

import contextlib
import logging
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from secrets import token_urlsafe

from sfumato.avatar import Avatar
from sfumato.errors import InputError, SfumatoError
from sfumato.media.audio import AudioReader
from sfumato.server.options import VideoOptions
from sfumato.server.refusal import RequestError
from sfumato.server.threads import give_way
from sfumato.timebase import FPS, SAMPLE_RATE, frames_for

_LOG = logging.getLogger(__name__)
_NICE = 10
_SETTLED = 10  # frames after which the time that is left can be told
_ALMOST = 0.99  # of all there is to do: the signing comes after the last frame


class State(str, Enum):
    """Where a video stands."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Order:
    """A video to be made.

    Attributes:
        avatar: makes the avatar; it may take a second.
        recording: file to be spoken; name: what its sender calls it.
        options: how.
    """

    avatar: Callable[[], Avatar]
    recording: Path
    name: str
    options: VideoOptions


@dataclass
class Video:
    """A video and how far it is.

    Attributes:
        id: names it.
        state: where it stands.
        progress: 0 to 1.
        seconds_left: until it is done, where that is known.
        error: why it failed, one line.
        order: what was asked for, while it is not done.
        ended: when it came to an end, on the clock of :class:`Jobs`.
    """

    id: str
    folder: Path
    order: Order | None
    state: State = State.QUEUED
    progress: float = 0.0
    seconds_left: float | None = None
    error: str | None = None
    ended: float | None = None

    @property
    def path(self) -> Path:
        """Where the finished video lies."""
        return self.folder / "video.mp4"


class _Cancelled(Exception):
    """Nobody wants this video any more."""


class Jobs:
    """All videos. Its methods may be called from any thread.

    Args:
        folder: where recordings and videos lie; they are removed, it is not.
        waiting: videos that may wait; more are refused.
        kept: seconds that a finished one can be fetched.
        longest: seconds of a recording at most.
        threads: for encoding.
    """

    def __init__(
        self, folder: Path, *, waiting: int, kept: float, longest: float, threads: int
    ) -> None:
        self._folder = folder
        self._most = waiting
        self._kept = kept
        self._longest = longest
        self._threads = threads
        self._videos: dict[str, Video] = {}
        self._queue: deque[Video] = deque()
        self._closed = False
        self._changed = threading.Condition()  # guards all above
        self._thread = threading.Thread(target=self._work, name="sfumato-video", daemon=True)
        self._thread.start()

    def check_room(self) -> None:
        """Whether one more may come; asked before an upload is taken in.

        Raises:
            RequestError: Too many wait.
        """
        with self._changed:
            if len(self._queue) >= self._most:
                raise RequestError(
                    429, f"{self._most} videos wait already: try again when some are done"
                )

    @contextlib.contextmanager
    def space(self) -> Iterator[tuple[str, Path]]:
        """An id and a folder of its own for what belongs to it; removed if the video is refused."""
        name = token_urlsafe(9)
        folder = self._folder / name
        folder.mkdir()
        try:
            yield name, folder
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def submit(self, name: str, folder: Path, order: Order) -> Video:
        """Queue a video.

        Args:
            name: its id; folder: its own; both from :meth:`space`.

        Raises:
            RequestError: Too many wait.
        """
        video = Video(name, folder, order)
        with self._changed:
            self.check_room()
            self._videos[name] = video
            self._queue.append(video)
            self._changed.notify_all()
        return video

    def get(self, name: str) -> Video:
        """A video by its id.

        Raises:
            RequestError: There is none.
        """
        with self._changed:
            if name not in self._videos:
                raise RequestError(404, f'no video "{name}": it may be older than it is kept')
            return self._videos[name]

    def remove(self, name: str) -> None:
        """Cancel a video that waits or is being made, forget one that came to its end.

        Raises:
            RequestError: There is none.
        """
        with self._changed:
            video = self.get(name)
            if video.state == State.QUEUED:
                self._queue.remove(video)
                self._end(video, State.CANCELLED)
            elif video.state == State.RUNNING:
                video.state = State.CANCELLED  # found at the next frame
            elif video.ended is not None:
                del self._videos[name]
                shutil.rmtree(video.folder, ignore_errors=True)

    def counts(self) -> dict[State, int]:
        """Videos of every state."""
        with self._changed:
            states = [video.state for video in self._videos.values()]
        return {state: states.count(state) for state in State}

    def sweep(self) -> None:
        """Forget what was kept long enough."""
        with self._changed:
            now = time.monotonic()
            for video in list(self._videos.values()):
                if video.ended is not None and now - video.ended > self._kept:
                    self.remove(video.id)

    def close(self) -> None:
        """Cancel all, and wait until nothing is written any more."""
        with self._changed:
            self._closed = True
            for video in list(self._videos.values()):
                if video.state in {State.QUEUED, State.RUNNING}:
                    self.remove(video.id)
            self._changed.notify_all()
        self._thread.join()

    def _work(self) -> None:
        give_way(_NICE)
        while (following := self._next()) is not None:
            video, order = following
            try:
                self._make(video, order)
            except _Cancelled:
                self._end(video, State.CANCELLED)
            except SfumatoError as error:
                line = " ".join(str(error).split())
                self._end(video, State.FAILED, line.replace(str(order.recording), order.name))
            except Exception as error:
                _LOG.error("video %s failed", video.id, exc_info=error)
                fault = f"a fault of the server ({type(error).__name__}): its log says more"
                self._end(video, State.FAILED, fault)
            else:
                self._end(video, State.DONE)
            del video, order, following  # a portrait is large; nothing may wait for the next video

    def _next(self) -> tuple[Video, Order] | None:
        with self._changed:
            while not self._queue and not self._closed:
                self._changed.wait()
            if self._closed:
                return None
            video = self._queue.popleft()
            assert video.order is not None
            video.state = State.RUNNING
            return video, video.order

    def _make(self, video: Video, order: Order) -> None:
        total = self._frames(video, order.recording)
        avatar = order.avatar()
        began = time.monotonic()

        def progress(done: int, expected: int | None) -> None:
            _go_on(video)
            if done > self._longest * FPS:  # its header told less
                raise self._too_long(order.recording)
            video.progress = min(done / total, _ALMOST)
            if done >= _SETTLED:
                video.seconds_left = max(total - done, 0) * (time.monotonic() - began) / done

        _go_on(video)
        clip = avatar.animate(
            order.recording, seed=order.options.seed, options=order.options.motion
        )
        clip.save(video.path, progress=progress, threads=self._threads)

    def _frames(self, video: Video, recording: Path) -> int:
        """Frames of the video; browsers' recordings do not tell, so their samples are counted."""
        with AudioReader(recording) as reader:
            samples = round((reader.duration or 0) * SAMPLE_RATE)
            for part in reader if not samples else ():
                _go_on(video)
                samples += len(part)
                if samples > self._longest * SAMPLE_RATE:
                    break
        if samples > self._longest * SAMPLE_RATE:
            raise self._too_long(recording)
        return max(frames_for(samples), 1)

    def _too_long(self, recording: Path) -> InputError:
        return InputError(f"{recording} lasts longer than {self._longest / 60:g} minutes: cut it")

    def _end(self, video: Video, state: State, error: str | None = None) -> None:
        with self._changed:
            # Who cancelled it after its last frame has been told that it is cancelled.
            video.state = State.CANCELLED if video.state == State.CANCELLED else state
            video.error = error if video.state == State.FAILED else None
            video.progress = 1.0 if video.state == State.DONE else video.progress
            video.seconds_left = None
            video.ended = time.monotonic()
            if video.order is not None:
                video.order.recording.unlink(missing_ok=True)
                video.order = None
            if video.state != State.DONE:
                shutil.rmtree(video.folder, ignore_errors=True)


def _go_on(video: Video) -> None:
    if video.state == State.CANCELLED:
        raise _Cancelled
