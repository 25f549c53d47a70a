"""A face of paper: it takes no time to draw, and its grey tells how loud its sound is.

Plug-ins are tested with it where time counts, as real faces are slow on a busy machine.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from sfumato.avatar import Avatar
from sfumato.controls import MotionOptions
from sfumato.stream import Cue, Frame, Image, Samples
from sfumato.timebase import FPS

SIDE = 64
MOUTH = (SIDE // 2, SIDE // 2, 0)  # a value that the mark in the corner leaves alone
LATENCY = 2


class PaperStream:
    """What a live session needs of a :class:`sfumato.stream.Stream`."""

    latency_frames = LATENCY
    lanes = 2

    def __init__(self, options: MotionOptions | None = None) -> None:
        self.renderer: Any = None
        self.options = options or MotionOptions()
        self.fails = False
        self._heard: list[Samples] = []
        self._count = 0

    @property
    def seconds(self) -> float:
        return self._count / FPS

    def hear(self, samples: Samples) -> list[Cue]:
        if self.fails:
            raise RuntimeError("torn")
        self._heard.append(samples)
        if len(self._heard) <= LATENCY:
            return []
        own = self._heard.pop(0)
        self._count += 1
        nothing: Any = None
        return [Cue(self._count - 1, nothing, own, nothing)]

    def draw(self, cue: Cue, *, plain: bool = False) -> Frame:
        grey = round(255 * float(np.abs(cue.samples).max()))
        image: Image = np.full((SIDE, SIDE, 3), grey, np.uint8)
        return Frame(cue.index, image, cue.samples)

    def interrupt(self) -> None:
        self._heard = [np.zeros_like(samples) for samples in self._heard]


class PaperAvatar:
    """Makes :class:`PaperStream`; the last one can be looked at."""

    def __init__(self) -> None:
        self.portrait = SimpleNamespace(canvas=SimpleNamespace(size=SIDE))
        self.renderer = None
        self.digest = "paper"
        self.last = PaperStream()

    def stream(self, *, seed: int = 0, options: MotionOptions | None = None) -> PaperStream:
        self.last = PaperStream(options)
        return self.last


def paper_avatar() -> tuple[Avatar, PaperAvatar]:
    """The same twice: as what it stands for, and as what it is."""
    paper = PaperAvatar()
    return cast(Avatar, paper), paper
