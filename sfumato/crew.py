"""Frames drawn on several cores: by threads, or by processes that help.

A frame is a few hundred short calls of numpy and OpenCV, and Python's lock lets one thread at a
time begin one: two threads draw one and a half times as fast as one, two processes twice.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from queue import SimpleQueue

import numpy as np
from numpy.typing import NDArray

from sfumato.helper import Helper, painted
from sfumato.motionfile import MotionFrame
from sfumato.render.renderer import Renderer

Image = NDArray[np.uint8]
Painter = Callable[[Renderer, MotionFrame], Image]

# Frames in hand for each core: a second of motion that is made, or a slow frame of the encoder,
# must not leave it idle.
AHEAD = 4

_PACKED = not sys.executable or bool(getattr(sys, "frozen", False))
_MOST_HELPERS = 3  # each takes memory of its own
_PAUSE = 60.0  # seconds after the start of a helper before another takes its place


class Crew:
    """Draws frames on so many cores; any of its methods may be called by several threads at a time.

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
        self._hiring = threading.Lock()
        self._closed = False
        self._second = ThreadPoolExecutor(threads) if threads > 1 else None

    def processes(self) -> list[int]:
        """Numbers of the processes that help now, in the system."""
        return [helper.pid for helper in self._helpers if helper.pid is not None]

    def draw_one(self, renderer: Renderer, moment: MotionFrame, *, plain: bool = False) -> Image:
        """Picture (S, S, 3) of a frame that comes alone, as live: two threads draw it.

        A process does it that does nothing else, so that whatever this one is busy with meanwhile
        cannot hold it up. It is drawn here where none is free, or knows the portrait: then one
        begins to learn it.

        Args:
            plain: see :meth:`~sfumato.render.renderer.Renderer.render`.
        """
        strangers = []
        self._replace_lost()
        for helper in self._helpers:
            if not helper.knows(renderer):
                strangers.append(helper)
            elif (image := helper.drawn_now(renderer, moment, plain)) is not None:
                return image
        for helper in strangers:
            if helper.learn(renderer, moment):
                break
        return renderer.render(moment, self._second, plain=plain).image

    def draw(self, renderer: Renderer, moments: Iterable[MotionFrame]) -> Iterator[Image]:
        """Pictures in the order of their motion, some of them drawn ahead."""
        self._replace_lost()
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

    def _replace_lost(self) -> None:
        """Start a helper again that is gone: a server runs for weeks."""
        if not any(helper.lost for helper in self._helpers):
            return
        with self._hiring:
            for number, helper in enumerate(self._helpers):
                if helper.lost and not self._closed and time.monotonic() - helper.began > _PAUSE:
                    self._helpers[number] = Helper()

    def close(self) -> None:
        """Let all helpers end."""
        with self._hiring:
            self._closed = True
        for helper in self._helpers:
            helper.close()
