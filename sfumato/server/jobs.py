"""Videos that visitors ask for: made one at a time beside live sessions, kept for a while."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from secrets import token_urlsafe

from sfumato.server.errors import RequestError
from sfumato.server.maker import order_line
from sfumato.server.options import VideoOptions

_LOG = logging.getLogger(__name__)
_SETTLED = 10  # frames after which the time that is left can be told
# Seconds in which a maker must get on: it has the lowest priority, and says nothing while it loads,
# counts the samples of an hour, and signs.
_PATIENCE = 900.0
_ALMOST = 0.99  # of all there is to do: the signing comes after the last frame
MAKER = (sys.executable, "-m", "sfumato.server.maker")


class State(StrEnum):
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
        photo: a photo's file; face: which face of it, see :meth:`sfumato.Studio.avatar`.
        recording: file to be spoken; name: what its sender calls it.
        options: how.
    """

    photo: bytes
    face: int | None
    recording: Path
    name: str
    options: VideoOptions


@dataclass
class Video:
    """A video and how far it is.

    Attributes:
        id: names it.
        folder: of its own.
        order: what was asked for, while it is not done.
        state: where it stands.
        progress: 0 to 1.
        seconds_left: until it is done, where that is known.
        error: why it failed, one line.
        moved: when it last got on, on the monotonic clock.
        stuck: it did not get on, and was ended for that.
        ended: when it came to an end, on the monotonic clock.
        process: that makes it.
    """

    id: str
    folder: Path
    order: Order | None
    state: State = State.QUEUED
    progress: float = 0.0
    seconds_left: float | None = None
    error: str | None = None
    moved: float = 0.0
    stuck: bool = False
    ended: float | None = None
    process: subprocess.Popen[bytes] | None = None

    @property
    def path(self) -> Path:
        """Where the finished video lies."""
        return self.folder / "video.mp4"


class Jobs:
    """All videos. Its methods may be called from any thread.

    Args:
        folder: where recordings and videos lie; they are removed, it is not.
        waiting: videos that may wait; more are refused.
        kept: seconds that a finished one can be fetched.
        longest: seconds of a recording at most.
        threads: cores that a video may use.
        maker: program that makes a video, see :mod:`sfumato.server.maker`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        waiting: int,
        kept: float,
        longest: float,
        threads: int,
        maker: Sequence[str] = MAKER,
    ) -> None:
        self._folder = folder
        self._most = waiting
        self._kept = kept
        self._longest = longest
        self._threads = threads
        self._maker = maker
        self._videos: dict[str, Video] = {}
        self._queue: deque[Video] = deque()
        self._closed = False
        self._changed = threading.Condition()  # guards all above and the videos
        self._thread = threading.Thread(target=self._work, name="sfumato-videos", daemon=True)
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
                video.state = State.CANCELLED
                if video.process is not None:
                    video.process.kill()  # all that it writes lies in the video's folder
            elif video.ended is not None:
                del self._videos[name]
                shutil.rmtree(video.folder, ignore_errors=True)

    def counts(self) -> dict[State, int]:
        """Videos of every state."""
        with self._changed:
            states = [video.state for video in self._videos.values()]
        return {state: states.count(state) for state in State}

    def sweep(self) -> None:
        """Forget what was kept long enough, and end what does not get on: others wait for it."""
        with self._changed:
            now = time.monotonic()
            for video in list(self._videos.values()):
                if video.ended is not None and now - video.ended > self._kept:
                    self.remove(video.id)
                elif video.process is not None and now - video.moved > _PATIENCE:
                    video.stuck = True
                    video.process.kill()

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
        while (following := self._next()) is not None:
            video, order = following
            try:
                error = self._make(video, order)
            except OSError as problem:
                error = f"the video cannot be made ({problem.strerror})"
            self._end(video, State.DONE if error is None else State.FAILED, error)
            del video, order, following  # a photo is large; nothing may wait for the next video

    def _next(self) -> tuple[Video, Order] | None:
        with self._changed:
            while not self._queue and not self._closed:
                self._changed.wait()
            if self._closed:
                return None
            video = self._queue.popleft()
            assert video.order is not None
            video.state, video.moved = State.RUNNING, time.monotonic()
            return video, video.order

    def _make(self, video: Video, order: Order) -> str | None:
        """Let it be made; why that failed, if it did."""
        line = order_line(
            order.recording,
            video.path,
            order.face,
            order.options,
            longest=self._longest,
            threads=self._threads,
        )
        with self._started(video) as process:
            assert process.stdin is not None and process.stdout is not None
            with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
                pipe.write(line + order.photo)
            error = self._followed(video, process.stdout)
        if video.stuck and process.returncode:
            _LOG.error("video %s: ended as it did not get on for %g s", video.id, _PATIENCE)
            return f"the video did not get on for {_PATIENCE / 60:g} minutes: try another recording"
        if error is None and process.returncode:
            if video.state != State.CANCELLED:
                _LOG.error("video %s: its maker ended with %d", video.id, process.returncode)
            return "a fault of the server: its log says more"
        return None if error is None else error.replace(str(order.recording), order.name)

    def _started(self, video: Video) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            self._maker,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"TMPDIR": str(video.folder)},
        )
        with self._changed:
            video.process = process
            if video.state == State.CANCELLED:
                process.kill()
        return process

    def _followed(self, video: Video, lines: Iterator[bytes]) -> str | None:
        """Take down how far it is until it is over; what it says went wrong."""
        began: float | None = None
        for line in lines:
            video.moved = time.monotonic()
            try:
                told = json.loads(line)
            except ValueError:
                break  # it was ended in the middle of a line
            if "error" in told:
                return str(told["error"])
            done, total = told["done"], told["total"]
            began = time.monotonic() if began is None else began
            # Progress last: who sees it, sees the time that belongs to it.
            if done > _SETTLED:
                video.seconds_left = (total - done) * (time.monotonic() - began) / (done - 1)
            video.progress = min(done / total, _ALMOST)
        return None

    def _end(self, video: Video, state: State, error: str | None = None) -> None:
        with self._changed:
            # Who cancelled it after its last frame has been told that it is cancelled.
            end = State.CANCELLED if video.state == State.CANCELLED else state
            video.error = error if end == State.FAILED else None
            video.progress = 1.0 if end == State.DONE else video.progress
            video.seconds_left = video.process = None
            video.ended = time.monotonic()
            if video.order is not None:
                video.order.recording.unlink(missing_ok=True)
                video.order = None
            if end != State.DONE:
                shutil.rmtree(video.folder, ignore_errors=True)
            video.state = end  # last: who sees it without the lock, sees what belongs to it
