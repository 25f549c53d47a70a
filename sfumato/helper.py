"""A process that helps to draw.

It is told a portrait once and then motion, frame by frame; it answers with pixels. It ends when its
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
import time
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO

import cv2
import numpy as np
from numpy.typing import NDArray

from sfumato.motionfile import MotionFrame
from sfumato.render.renderer import Renderer

if sys.platform == "linux":
    import fcntl

Image = NDArray[np.uint8]

_COMMAND = (sys.executable, "-m", "sfumato.helper")
_UP = b"\1"  # what it says when it can begin
_PIPE = 2**20  # bytes; as much as Linux lets anybody have
_END_SECONDS = 5.0  # in which it must end by itself
# Seconds after which a thread of Python must let another one in. With the usual 5 ms two threads
# that draw, and call a hundred functions of OpenCV in a frame, wait for each other a tenth longer.
_TURN = 2e-4


def draw_here() -> None:
    """Make this process one that draws: OpenCV's own threads off, Python's take short turns."""
    cv2.setNumThreads(1)
    sys.setswitchinterval(_TURN)


@dataclass(frozen=True)
class _Order:
    """A frame to be drawn.

    Attributes:
        portrait: number of the portrait.
        moment: its motion.
        alone: it comes alone, so that there is a core for a second thread.
        plain: without networks.
        renderer: of the portrait, the first time.
        gone: portraits that can be forgotten.
    """

    portrait: int
    moment: MotionFrame
    alone: bool
    plain: bool
    renderer: Renderer | None
    gone: tuple[int, ...]


class Helper:
    """A process that draws frames; where it is lost they are drawn here.

    Attributes:
        pid: of the process, None where none could be started.
        began: when it was started, by :func:`time.monotonic`.
        close: let it end.
    """

    def __init__(self) -> None:
        self._up: Future[None] = Future()
        self._one_at_a_time = threading.Lock()
        self._known: weakref.WeakKeyDictionary[Renderer, int] = weakref.WeakKeyDictionary()
        self._gone: deque[int] = deque()  # of them, not told yet
        self._count = 0
        self._pipes: tuple[IO[bytes], IO[bytes]] | None = None
        self.pid: int | None = None
        self.began = time.monotonic()
        self.close: Callable[[], object] = lambda: None
        with contextlib.suppress(OSError):  # no process can be started
            self._start()
        if self._pipes is None:
            self._up.set_result(None)

    def _start(self) -> None:
        process = subprocess.Popen(
            _COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"OPENBLAS_NUM_THREADS": "1"} | os.environ,
        )
        assert process.stdin is not None and process.stdout is not None
        _widen(process.stdout)
        self._pipes = process.stdin, process.stdout
        self.pid = process.pid
        self.close = weakref.finalize(self, _end, process)
        threading.Thread(target=_await, args=(process.stdout, self._up), daemon=True).start()

    @property
    def lost(self) -> bool:
        """Whether it cannot be asked any more."""
        return self._pipes is None

    def when_up(self, then: Callable[[], None]) -> None:
        """Call this as soon as it can begin, or is lost."""
        self._up.add_done_callback(lambda _: then())

    def knows(self, renderer: Renderer) -> bool:
        """Whether it has drawn this portrait before."""
        return self._pipes is not None and renderer in self._known

    def learn(self, renderer: Renderer, moment: MotionFrame) -> bool:
        """Have it draw a frame that nobody sees, so that it knows the portrait.

        Returns:
            Whether it is free to do so.
        """
        if not self._up.done() or self._pipes is None or self._one_at_a_time.locked():
            return False
        threading.Thread(target=self.painted, args=(renderer, moment), daemon=True).start()
        return True

    def painted(self, renderer: Renderer, moment: MotionFrame) -> Image:
        """The picture (S, S, 3) of a frame, as soon as it is free."""
        with self._one_at_a_time:
            image = self._asked(renderer, moment, alone=False, plain=False)
        return painted(renderer, moment) if image is None else image

    def drawn_now(self, renderer: Renderer, moment: MotionFrame, plain: bool) -> Image | None:
        """The same at once, by two of its threads; None: it is busy or lost."""
        if not self._one_at_a_time.acquire(blocking=False):
            return None
        try:
            return self._asked(renderer, moment, alone=True, plain=plain)
        finally:
            self._one_at_a_time.release()

    def _asked(
        self, renderer: Renderer, moment: MotionFrame, *, alone: bool, plain: bool
    ) -> Image | None:
        if self._pipes is None:
            return None
        orders, pictures = self._pipes
        size = renderer.portrait.canvas.size
        image = np.empty((size, size, 3), np.uint8)
        try:
            pickle.dump(self._order(renderer, moment, alone, plain), orders, protocol=5)
            orders.flush()
            if pictures.readinto(image.data.cast("B")) < image.nbytes:  # type: ignore[attr-defined]
                raise BrokenPipeError
        except (OSError, ValueError):  # it has ended; its pipes were closed
            self._pipes = None
            return None
        return image

    def _order(self, renderer: Renderer, moment: MotionFrame, alone: bool, plain: bool) -> _Order:
        gone = tuple(self._gone.popleft() for _ in range(len(self._gone)))
        known = renderer in self._known
        if not known:
            self._known[renderer] = self._count
            weakref.finalize(renderer, self._gone.append, self._count)
            self._count += 1
        number, told = self._known[renderer], None if known else renderer
        return _Order(number, moment, alone, plain, told, gone)


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
    from sfumato.render.decoder import Decoder

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who started this, and ends this
    draw_here()
    Decoder.load()  # stays at hand
    orders, pictures = sys.stdin.buffer, sys.stdout.buffer
    pictures.write(_UP)
    pictures.flush()
    try:
        _serve(orders, pictures)
    except BrokenPipeError:
        os._exit(1)  # nobody is left to look


def _serve(orders: IO[bytes], pictures: IO[bytes]) -> None:
    renderers: dict[int, Renderer] = {}
    second = ThreadPoolExecutor(1)
    while True:
        try:
            order: _Order = pickle.load(orders)
        except EOFError:
            return
        for number in order.gone:
            del renderers[number]
        if order.renderer is not None:
            renderers[order.portrait] = order.renderer
        renderer = renderers[order.portrait]
        image = renderer.render(
            order.moment, second if order.alone else None, plain=order.plain
        ).image
        pictures.write(np.ascontiguousarray(image).data.cast("B"))
        pictures.flush()


if __name__ == "__main__":
    main()
