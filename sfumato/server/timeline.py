"""When frames play on the clock of their media, which goes on where a slow machine stops."""

from __future__ import annotations

import time
from collections.abc import Callable

from sfumato.timebase import FPS

_STOP = 2.0  # frames of lateness that are taken for a stop
_FOLLOW = 0.01  # of the lateness, a frame


class Timeline:
    """Gives every frame its place.

    Were the time of a stop left out, every later packet would look late by it, and the visitor's
    browser would play all of them that much later: a second, for half a minute.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begin: float | None = None  # when frame 0 was due, in frames
        self._skipped = 0

    def place(self, index: int) -> int:
        """The number under which a frame that is there now shall play.

        Args:
            index: number of the frame; one more than that before.
        """
        now = self._clock() * FPS
        if self._begin is None:
            self._begin = now - index
        late = now - self._begin - index - self._skipped
        if late > _STOP:
            self._skipped += round(late)
        else:
            self._begin += _FOLLOW * late  # a microphone has a clock of its own
        return index + self._skipped
