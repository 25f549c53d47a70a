"""What gives way when a machine is too slow for live pictures: by rule, and said.

First every second picture is left out (motion and sound go on), then pictures are drawn at half the
size. What was given up comes back when there has been room for it for a while.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from sfumato.timebase import FPS


class Quality(IntEnum):
    """What a live session shows, best first."""

    FULL = 0
    HALF_RATE = 1
    HALF_SIZE = 2

    def __str__(self) -> str:
        return ("full", "half the frame rate", "half the frame rate and size")[self]


_BUDGET = 1 / FPS
_FULL = 0.95  # share of the budget that may be used for long
_ROOM = 0.8  # share that a better quality may be expected to use
_STALL = 2.0  # budgets; a machine that stops for longer is not slow for that
_FOLLOW = 0.1  # of the mean, a frame: about ten frames count
_SETTLE = FPS  # frames before another step down
_PATIENCE = 8 * FPS  # frames with room before a step up
# What a step up multiplies the time of a frame with: twice the pictures, four times the pixels.
_DEARER = {Quality.HALF_RATE: 2.0, Quality.HALF_SIZE: 3.0}


@dataclass(frozen=True)
class Pace:
    """A state: tell it what every frame took, and it says what the next is to be.

    Attributes:
        quality: for the next frame.
        busy: mean seconds that a frame takes of late.
        frames: since the quality changed; roomy: of them in a row, with room for better.
    """

    quality: Quality = Quality.FULL
    busy: float = 0.0
    frames: int = 0
    roomy: int = 0

    @property
    def fresh(self) -> bool:
        """Whether the next frame gets a picture of its own."""
        return self.quality == Quality.FULL or self.frames % 2 == 0

    def after(self, seconds: float) -> Pace:
        """The state after a frame that took so long to make."""
        busy = self.busy + _FOLLOW * (min(seconds, _STALL * _BUDGET) - self.busy)
        frames = self.frames + 1
        if busy > _FULL * _BUDGET and frames > _SETTLE and self.quality < Quality.HALF_SIZE:
            return Pace(Quality(self.quality + 1), busy / 2)
        room = busy * _DEARER.get(self.quality, 1.0) < _ROOM * _BUDGET
        roomy = self.roomy + 1 if room else 0
        if roomy > _PATIENCE and self.quality > Quality.FULL:
            return Pace(Quality(self.quality - 1), busy * _DEARER[self.quality])
        return Pace(self.quality, busy, frames, roomy)
