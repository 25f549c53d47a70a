"""What gives way when a machine is too slow for live pictures: by rule, and said.

First every second picture is left out (motion and sound go on), then pictures are drawn plainly,
without the decoder's networks. What was given up comes back when there has been room for it for a
while.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

from sfumato.timebase import FPS


class Quality(IntEnum):
    """What a live session shows, best first."""

    FULL = 0
    HALF_RATE = 1
    PLAIN = 2

    def __str__(self) -> str:
        return ("full", "half the frame rate", "half the frame rate, plain")[self]


_BUDGET = 1 / FPS
_STALL = 2.0  # budgets; a machine that stops for longer is not slow for that
_FOLLOW = 0.04  # of the mean, a picture: about a second of them counts
_SETTLE = FPS  # frames before another step down
# Frames with room before a step up; twice as many after each, as what looked like room may be none,
# until the better quality holds for so long.
_PATIENCE, _MOST_PATIENCE, _HOLDS = 8 * FPS, 128 * FPS, 60 * FPS
# Budgets that a picture may take for long: at full rate by how many are drawn at a time, otherwise
# one is, and of two frames the second takes its share for motion alone.
_FULL = {1: 0.95, 2: 1.6}
_HALF = 1.75
# The same where one is drawn at a time and a step up is thought of: two get into each other's way.
_ROOM_FULL = {1: 0.88, 2: 1.1}
_ROOM_HALF = 1.63
_NETWORKS = 2.5  # what they multiply the time of a plain picture with


@dataclass(frozen=True)
class Pace:
    """A state: tell it of every frame, and what pictures took, and it says what the next is to be.

    Attributes:
        quality: for the next frame.
        lanes: pictures that are drawn at a time where one takes longer than a frame lasts, 1 or 2.
        busy: mean seconds that a picture takes of late, its motion included.
        frames: since the quality changed; roomy: of them in a row, with room for better.
        patience: frames with room before a step up.
    """

    quality: Quality = Quality.FULL
    lanes: int = 1
    busy: float = 0.0
    frames: int = 0
    roomy: int = 0
    patience: int = _PATIENCE

    @property
    def fresh(self) -> bool:
        """Whether the next frame gets a picture of its own."""
        return self.quality == Quality.FULL or self.frames % 2 == 0

    def drawn(self, seconds: float) -> Pace:
        """The state after a picture that took so long."""
        busy = self.busy + _FOLLOW * (min(seconds, _STALL * _BUDGET) - self.busy)
        return replace(self, busy=busy)

    def after(self) -> Pace:
        """The state after a frame, with a picture or without."""
        frames = self.frames + 1
        full = self.quality == Quality.FULL
        patience = _PATIENCE if full and frames > _HOLDS else self.patience
        most = _FULL[self.lanes] if full else _HALF
        if self.busy > most * _BUDGET and frames > _SETTLE and self.quality < Quality.PLAIN:
            return self._turned(Quality(self.quality + 1), self.busy, patience)
        if full:
            return replace(self, frames=frames, patience=patience)
        better = Quality(self.quality - 1)
        wanted = self.busy * _NETWORKS if self.quality == Quality.PLAIN else self.busy
        room = _ROOM_FULL[self.lanes] if better == Quality.FULL else _ROOM_HALF
        roomy = self.roomy + 1 if wanted < room * _BUDGET else 0
        if roomy > patience:
            return self._turned(better, wanted, min(2 * patience, _MOST_PATIENCE))
        return replace(self, frames=frames, roomy=roomy)

    def _turned(self, quality: Quality, busy: float, patience: int) -> Pace:
        return Pace(quality, self.lanes, busy, patience=patience)
