"""The parts of life that run by themselves: how a blink goes once it has begun, and breath."""

from __future__ import annotations

import numpy as np

from sfumato.timebase import FPS

_CLOSING, _SHUT, _OPENING = 0.09, 0.05, 0.17  # seconds of a blink (Schiffman 2001; our tracks)
_BREATHS_A_MINUTE = 14.0


def lid_closure(age: float) -> float:
    """How far the lids are shut, 0 to 1, ``age`` seconds after a blink began."""
    if age < _CLOSING:
        share = age / _CLOSING
    elif age < _CLOSING + _SHUT:
        share = 1.0
    else:
        share = 1.0 - (age - _CLOSING - _SHUT) / _OPENING
    share = min(max(share, 0.0), 1.0)
    return share * share * (3.0 - 2.0 * share)


def breathe(phase: float, normal: float) -> float:
    """The phase of the breath (0 to 1) a frame later; ``normal`` makes it a little uneven."""
    return (phase + _BREATHS_A_MINUTE / 60.0 * (1.0 + 0.3 * normal) / FPS) % 1.0


def chest(phase: float) -> float:
    """How full the chest is: 0 out, 1 in."""
    return 0.5 - 0.5 * float(np.cos(2 * np.pi * phase))
