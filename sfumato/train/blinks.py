"""What tracked lids tell: when people blink, and how lids follow the gaze."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sfumato.corpus import ClipInfo
from sfumato.latent import N_EXPRESSION, FaceBasis
from sfumato.train.motion_targets import LIDS

Array = NDArray[np.floating]

SHUT = 1.03  # closed lids press a little
BLINK_SHARE = 0.35  # of full closure above the usual lids: tracked lids seldom meet
LONGEST = 10  # frames of a blink
# Of the lids, for a radian of gaze; not more: half-closed eyes are tracked as looking down.
SLOPES = (0.0, 2.5)


def blink_limit(basis: FaceBasis) -> float:
    """How far beyond their usual place lids count as shut."""
    return BLINK_SHARE * float(basis.blink_shut.mean())


def find_blinks(lids: Array, limit: float) -> list[int]:
    """Frames in the middle of blinks.

    Args:
        lids: (T, 2) coefficients of both lids.
        limit: lids so far beyond their median, for a short time, blink.
    """
    mean = lids.mean(axis=1)
    shut = mean - np.median(mean) > limit
    edges = np.flatnonzero(np.diff(np.r_[0, shut.astype(int), 0]))
    pairs = zip(edges[::2], edges[1::2], strict=True)
    return [int(a + b) // 2 for a, b in pairs if b - a <= LONGEST]


def shut_lids(basis: FaceBasis) -> Array:
    """Expression (N_EXPRESSION,) of closed lids."""
    move = np.zeros(N_EXPRESSION)
    move[list(LIDS)] = SHUT * basis.blink_shut
    return move


def lids_follow(infos: Iterable[ClipInfo], cache: Path, basis: FaceBasis) -> Array:
    """Expression (N_EXPRESSION,) of the lids for a radian of downward gaze, in real clips."""
    lids, pitch = [np.zeros(0)], [np.zeros(0)]
    for info in infos:
        path = cache / "face" / f"{info.name}.npz"
        if info.kind != "real" or not info.teaches or not path.exists():
            continue
        stored = np.load(path)
        good, own = stored["good"], stored["expression"][:, list(LIDS)].mean(axis=1)
        if good.sum() < LONGEST:
            continue
        own, gaze = own - np.median(own[good]), stored["gaze"][:, 1]
        calm = good & (np.abs(own) < blink_limit(basis))
        lids.append(own[calm])
        pitch.append(gaze[calm] - np.median(gaze[good]))
    move = np.zeros(N_EXPRESSION)
    if sum(map(len, lids)) > LONGEST:
        slope = np.polyfit(np.concatenate(pitch), np.concatenate(lids), 1)[0]
        move[list(LIDS)] = np.clip(slope, *SLOPES)
    return move
