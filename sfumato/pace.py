"""What gives way when a machine is too slow for live pictures: by rule, and said.

First every second picture is left out (motion and sound go on), then pictures are drawn at half the
size. What was given up comes back when there has been room for it for a while.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
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
_ROOM = 0.88  # share that a better quality may be expected to use
_STALL = 2.0  # budgets; a machine that stops for longer is not slow for that
_FOLLOW = 0.04  # of the mean, a picture: about a second of them counts
_SETTLE = FPS  # frames before another step down
# Frames with room before a step up; twice as many after each, as what looked like room may be none,
# until the better quality holds for so long.
_PATIENCE, _MOST_PATIENCE, _HOLDS = 8 * FPS, 128 * FPS, 60 * FPS
# Budgets that a picture may take: of two frames the second takes its share for motion alone.
_ALLOWED = {Quality.FULL: 1.0, Quality.HALF_RATE: 1.85, Quality.HALF_SIZE: 1.85}
_LARGER = 3.0  # what twice the size multiplies the time of a picture with


@dataclass(frozen=True)
class Pace:
    """A state: tell it what every frame took, and it says what the next is to be.

    Attributes:
        quality: for the next frame.
        busy: mean seconds that a frame with a picture of its own takes of late; frames without tell
            nothing of what all pictures would take.
        frames: since the quality changed; roomy: of them in a row, with room for better.
        patience: frames with room before a step up.
    """

    quality: Quality = Quality.FULL
    busy: float = 0.0
    frames: int = 0
    roomy: int = 0
    patience: int = _PATIENCE

    @property
    def fresh(self) -> bool:
        """Whether the next frame gets a picture of its own."""
        return self.quality == Quality.FULL or self.frames % 2 == 0

    def after(self, seconds: float) -> Pace:
        """The state after a frame that took so long to make."""
        busy, frames = self.busy, self.frames + 1
        if self.fresh:
            busy += _FOLLOW * (min(seconds, _STALL * _BUDGET) - busy)
        patience = _PATIENCE if self.quality == Quality.FULL and frames > _HOLDS else self.patience
        now = replace(self, busy=busy, frames=frames, patience=patience)
        slow = busy > _FULL * _ALLOWED[self.quality] * _BUDGET
        if slow and frames > _SETTLE and self.quality < Quality.HALF_SIZE:
            return Pace(Quality(self.quality + 1), busy, patience=patience)
        if self.quality == Quality.FULL:
            return now
        better = Quality(self.quality - 1)
        wanted = busy * _LARGER if self.quality == Quality.HALF_SIZE else busy
        roomy = self.roomy + 1 if wanted < _ROOM * _ALLOWED[better] * _BUDGET else 0
        if roomy > patience:
            return Pace(better, wanted, patience=min(2 * patience, _MOST_PATIENCE))
        return replace(now, roomy=roomy)
