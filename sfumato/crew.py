"""The frames of a recording, drawn on several cores: by threads, or by processes that help.

A frame is a few hundred short calls of numpy and OpenCV, and Python's lock lets one thread at a
time begin one: two threads draw one and a half times as fast as one, two processes twice. A helper
is told the portrait once and then motion, frame by frame; it answers with pixels. It ends when its
standard input does, so also with whatever started it.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from queue import SimpleQueue
from typing import IO

import numpy as np
from numpy.typing import NDArray

from sfumato.motionfile import MotionFrame
from sfumato.render.renderer import Renderer

if sys.platform == "linux":
    import fcntl

Image = NDArray[np.uint8]
Painter = Callable[[Renderer, MotionFrame], Image]

# Frames in hand for each core: a second of motion that is made, or a slow frame of the encoder,
# must not leave it idle.
AHEAD = 4

_PACKED = not sys.executable or bool(getattr(sys, "frozen", False))
_HELPER = (sys.executable, "-m", "sfumato.crew")
_MOST_HELPERS = 3  # each takes memory of its own
_UP = b"\1"  # what a helper says when it can begin
_PIPE = 2**20  # bytes; as much as Linux lets anybody have
_END_SECONDS = 5.0  # in which a helper must end by itself


class Crew:
    """Draws frames on so many cores.

    Args:
        threads: cores, 1 or more.
        helpers: up to three of them, but not all, are used by processes, which are started here;
            the others, or otherwise all, by threads of this one.
    """

    def __init__(self, threads: int = 1, *, helpers: bool = False) -> None:
        self.threads = threads
        # In a program that was packed into one file, the interpreter is that program.
        count = min(threads - 1, _MOST_HELPERS) if helpers and not _PACKED else 0
        self._helpers = [Helper() for _ in range(count)]

    def draw(self, renderer: Renderer, moments: Iterable[MotionFrame]) -> Iterator[Image]:
        """Pictures in the order of their motion, some of them drawn ahead."""
        painters: SimpleQueue[Painter] = SimpleQueue()
        for _ in range(self.threads - len(self._helpers)):
            painters.put(painted)
        for helper in self._helpers:
            helper.when_up(partial(painters.put, helper.painted))

        def image(moment: MotionFrame) -> Image:
            painter = painters.get()
            try:
                return painter(renderer, moment)
            finally:
                painters.put(painter)

        ahead: deque[Future[Image]] = deque()
        with ThreadPoolExecutor(self.threads) as pool:
            try:
                for moment in moments:
                    ahead.append(pool.submit(image, moment))
                    if len(ahead) > AHEAD * self.threads:
                        yield ahead.popleft().result()
                while ahead:
                    yield ahead.popleft().result()
            finally:
                for job in ahead:
                    job.cancel()

    def close(self) -> None:
        """Let all helpers end."""
        for helper in self._helpers:
            helper.close()


class Helper:
    """A process that draws frames; where it is lost they are drawn here."""

    def __init__(self) -> None:
        self._up: Future[None] = Future()
        self._one_at_a_time = threading.Lock()
        self._told: Renderer | None = None
        self._pipes: tuple[IO[bytes], IO[bytes]] | None = None
        self.close: Callable[[], object] = lambda: None
        with contextlib.suppress(OSError):  # no process can be started
            self._start()
        if self._pipes is None:
            self._up.set_result(None)

    def _start(self) -> None:
        process = subprocess.Popen(
            _HELPER,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"OPENBLAS_NUM_THREADS": "1"} | os.environ,
        )
        assert process.stdin is not None and process.stdout is not None
        _widen(process.stdout)
        self._pipes = process.stdin, process.stdout
        self.close = weakref.finalize(self, _end, process)
        threading.Thread(target=_await, args=(process.stdout, self._up), daemon=True).start()

    def when_up(self, then: Callable[[], None]) -> None:
        """Call this as soon as it can begin, or is lost."""
        self._up.add_done_callback(lambda _: then())

    def painted(self, renderer: Renderer, moment: MotionFrame) -> Image:
        """The picture (S, S, 3) of a frame."""
        with self._one_at_a_time:
            if self._pipes is not None:
                try:
                    return self._asked(*self._pipes, renderer, moment)
                except (OSError, ValueError):  # it has ended; its pipes were closed
                    self._pipes = None
        return painted(renderer, moment)

    def _asked(
        self, orders: IO[bytes], pictures: IO[bytes], renderer: Renderer, moment: MotionFrame
    ) -> Image:
        if renderer is not self._told:
            pickle.dump(renderer, orders, protocol=5)
            self._told = renderer
        pickle.dump(moment, orders, protocol=5)
        orders.flush()
        size = renderer.portrait.canvas.size
        image = np.empty((size, size, 3), np.uint8)
        if pictures.readinto(image.data.cast("B")) < image.nbytes:  # type: ignore[attr-defined]
            raise BrokenPipeError
        return image


def painted(renderer: Renderer, moment: MotionFrame) -> Image:
    """The picture (S, S, 3) of a frame, drawn here and now."""
    return renderer.render(moment).image


def _widen(pictures: IO[bytes]) -> None:
    """Let a pipe hold a whole picture, where the system can: both sides wait less often."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            fcntl.fcntl(pictures, fcntl.F_SETPIPE_SZ, _PIPE)


def _await(pictures: IO[bytes], up: Future[None]) -> None:
    pictures.read(len(_UP))
    up.set_result(None)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let a helper end, or end it."""
    assert process.stdin is not None and process.stdout is not None
    with contextlib.suppress(OSError):
        process.stdin.close()
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()


def main() -> None:
    """Draw what standard input asks for, until it ends."""
    import cv2

    from sfumato.render.decoder import Decoder

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who started this, and ends this
    cv2.setNumThreads(1)
    Decoder.load()  # stays at hand
    orders, pictures = sys.stdin.buffer, sys.stdout.buffer
    pictures.write(_UP)
    pictures.flush()
    try:
        _serve(orders, pictures)
    except BrokenPipeError:
        os._exit(1)  # nobody is left to look


def _serve(orders: IO[bytes], pictures: IO[bytes]) -> None:
    renderer: Renderer | None = None
    while True:
        try:
            order: Renderer | MotionFrame = pickle.load(orders)
        except EOFError:
            return
        if isinstance(order, Renderer):
            renderer = order
        elif renderer is not None:
            pictures.write(np.ascontiguousarray(painted(renderer, order)).data.cast("B"))
            pictures.flush()


if __name__ == "__main__":
    main()
