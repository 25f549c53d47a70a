"""Recordings of live sessions: signed MP4 files, picture and sound in step to the sample."""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path
from secrets import token_urlsafe

import numpy as np
from numpy.typing import NDArray

from sfumato import provenance
from sfumato.errors import InputError
from sfumato.media.video import VideoWriter
from sfumato.server.errors import RequestError
from sfumato.timebase import FPS

Image = NDArray[np.uint8]
Samples = NDArray[np.float32]

LONGEST = 1800.0  # seconds
_PICTURES = FPS  # that wait to be encoded; beyond, the one before is shown again
_FRAMES = 60 * FPS  # that wait at all; beyond, they are left out with their sound
_ID = re.compile(r"[\w-]{8,32}")


@dataclass(frozen=True)
class Finished:
    """A recording that can be fetched.

    Attributes:
        id: names it.
        path: the MP4.
        seconds: how long it lasts.
    """

    id: str
    path: Path
    seconds: float


class Recording:
    """A recording that runs, see :meth:`start`.

    Attributes:
        id: names it.
        frames: so far.
    """

    def __init__(self, path: Path, size: int) -> None:
        provenance.marker()  # fails now rather than at the very end where there is no key
        self.id = path.stem
        self.path = path
        self.frames = 0
        self._writer = VideoWriter(path, (size, size), spoken=True, finish=self._sign, threads=1)
        self._photos: dict[str, None] = {}  # in the order in which they were shown
        self._frames: deque[tuple[Image | None, Samples] | None] = deque()
        self._pictures = 0
        self._abandoned = False
        self._failure: Exception | None = None
        self._changed = threading.Condition()  # guards all above
        self._thread = threading.Thread(target=self._work, name="sfumato-recording", daemon=True)
        self._thread.start()

    @staticmethod
    def start(folder: Path, size: int) -> Recording:
        """Begin to record.

        Args:
            folder: where the file will lie.
            size: side of the pictures.

        Raises:
            OutputError: The place cannot be written, or there is no key to sign with.
        """
        return Recording(folder / f"{token_urlsafe(12)}.mp4", size)

    @property
    def full(self) -> bool:
        """Half an hour was recorded: nothing more is taken."""
        return self.frames >= LONGEST * FPS

    def add(self, image: Image, samples: Samples, photo: str) -> None:
        """The next frame; returns at once.

        When encoding falls behind, pictures are left out and sound goes on, so that the two stay
        together and memory stays small.

        Args:
            image: (size, size, 3) uint8 RGB; it must not be changed afterwards.
            samples: (640,) float32.
            photo: SHA-256 of the photo that is shown, for the content credentials.
        """
        with self._changed:
            if self.full or self._abandoned or len(self._frames) >= _FRAMES:
                return
            fits = self._pictures < _PICTURES
            self._pictures += fits
            self._frames.append((image if fits else None, samples))
            self._photos[photo] = None
            self.frames += 1
            self._changed.notify()

    def finish(self) -> Finished:
        """End it, sign it; blocks until the file is there.

        Raises:
            InputError: Nothing was recorded.
            OutputError: It could not be written.
        """
        with self._changed:
            if not self.frames:
                self._abandoned = True
            self._frames.append(None)
            self._changed.notify()
        self._thread.join()
        if self._failure is not None:
            raise self._failure
        if not self.frames:
            raise InputError("nothing was recorded: let it run for a moment")
        return Finished(self.id, self.path, self.frames / FPS)

    def abandon(self) -> None:
        """Give it up; blocks until nothing is left of it."""
        with self._changed:
            self._abandoned = True
            self._frames.append(None)
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        try:
            with contextlib.suppress(_Abandoned), self._writer as writer:
                shown: Image | None = None
                while (frame := self._next()) is not None:
                    image, samples = frame
                    shown = shown if image is None else image
                    if shown is not None:
                        writer.write(shown, samples)
        except Exception as error:  # handed to whoever finishes it
            with self._changed:
                self._failure, self._abandoned = error, True
                self._frames.clear()

    def _sign(self, path: Path) -> None:
        """Name all photos that were shown: a session may change its face."""
        provenance.marker(photo=", ".join(self._photos))(path)

    def _next(self) -> tuple[Image | None, Samples] | None:
        with self._changed:
            while not self._frames and not self._abandoned:
                self._changed.wait()
            if self._abandoned:
                raise _Abandoned
            frame = self._frames.popleft()
            self._pictures -= frame is not None and frame[0] is not None
            return frame


class _Abandoned(Exception):
    """Nobody wants this recording any more."""


class Recordings:
    """Finished recordings, kept for a while.

    Args:
        folder: where they lie; nothing else does.
        kept: seconds for which one can be fetched.
        desk: where those that run lie, if not there; on the same disk.
    """

    def __init__(self, folder: Path, kept: float, desk: Path | None = None) -> None:
        self._folder = folder
        self._desk = folder if desk is None else desk
        self._kept = kept

    def start(self, size: int) -> Recording:
        """Begin to record, see :meth:`Recording.start`."""
        return Recording.start(self._desk, size)

    def finish(self, recording: Recording) -> Finished:
        """End a recording; from now on it can be fetched. Blocks, see :meth:`Recording.finish`."""
        done = recording.finish()
        path = self._folder / done.path.name
        if path != done.path:
            os.replace(done.path, path)
        return replace(done, path=path)

    def get(self, name: str) -> Path:
        """The file of a finished recording.

        Raises:
            RequestError: There is none of that id.
        """
        path = self._folder / f"{name}.mp4"
        if not _ID.fullmatch(name) or not path.is_file():
            raise RequestError(404, f'no recording "{name}": it may be older than it is kept')
        return path

    def count(self) -> int:
        """Recordings that can be fetched."""
        return sum(_ID.fullmatch(path.stem) is not None for path in self._folder.glob("*.mp4"))

    def sweep(self) -> None:
        """Remove what was kept long enough."""
        for path in self._folder.glob("*.mp4"):
            # Files of recordings that run are named otherwise.
            if _ID.fullmatch(path.stem) and time.time() - path.stat().st_mtime > self._kept:
                path.unlink(missing_ok=True)
