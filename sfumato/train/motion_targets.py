"""What the motion network shall say: tracked expressions, each clip freed of its own habits."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sfumato.corpus import ClipInfo
from sfumato.geometry import topology as topo
from sfumato.interior import InteriorAxes
from sfumato.latent import EXPRESSION_NAMES, N_EXPRESSION, FaceBasis
from sfumato.motionfile import N_INTERIOR
from sfumato.train.interior import cached_looks

Array = NDArray[np.float32]

LIDS = (EXPRESSION_NAMES.index("blink_left"), EXPRESSION_NAMES.index("blink_right"))
OPEN = EXPRESSION_NAMES.index("mouth_open")
WIDE = EXPRESSION_NAMES.index("mouth_wide")
# Typical spread of a clip's lip opening between its 5 and 95 % quantiles, face units.
USUAL_SPREAD = 0.14
OPENINGS = (topo.LIP_MIDDLES, (81, 178), (311, 402))
HELD = len(OPENINGS) + 1  # columns of Measures.lips, the first: openings and width
N_SAID = N_EXPRESSION + N_INTERIOR
_INTERIOR_WEIGHT = 1.5  # of a standard deviation, beside landmarks


@dataclass(frozen=True)
class Measures:
    """Linear measures of an expression, all about 1 in size.

    Attributes:
        metric: (N, N); ``error @ metric`` has the length of the landmark error, lips weighed most.
        lips: (N, 7): opening in the middle, left, right; width; protrusion of both lips; chin.
        opening: (N,) opening of the inner lips in face units.

    N is N_EXPRESSION, or N_SAID with what is seen between the lips.
    """

    metric: Array
    lips: Array
    opening: Array

    @staticmethod
    def of(basis: FaceBasis) -> Measures:
        """Measured on the basis; neutral lips are closed, so openings need no constant."""
        weights = np.full(topo.N_POINTS, 0.3)
        weights[[152, 148, 377, 176, 400, 149, 378, 199, 200, 18]] = 1.0
        weights[list(topo.OUTER_LIPS + topo.INNER_LIPS)] = 2.0
        weights[topo.N_FACE :] = 0.0
        flat = (basis.expression * weights[:, None] * (1.0, 1.0, 0.5)).reshape(N_EXPRESSION, -1)
        upper = np.linalg.qr(flat.T, mode="r")
        metric = upper.T / np.sqrt((upper**2).sum() / N_EXPRESSION)
        e = basis.expression
        columns = [(e[:, low, 1] - e[:, up, 1]) / 0.05 for up, low in OPENINGS]
        columns += [
            (e[:, 308, 0] - e[:, 78, 0]) / 0.035,
            -(e[:, 0, 2] + e[:, 13, 2]) / 2 / 0.03,
            -(e[:, 17, 2] + e[:, 14, 2]) / 2 / 0.03,
            e[:, 152, 1] / 0.06,
        ]
        lips = np.stack(columns, axis=1)
        opening = e[:, 14, 1] - e[:, 13, 1]
        return Measures(*(a.astype(np.float32) for a in (metric, lips, opening)))

    def said(self) -> Measures:
        """Measures of what sound lets expect: of the interior, too, whose first is a lip's."""
        more = ((0, N_INTERIOR), (0, N_INTERIOR))
        metric = np.pad(self.metric, more)
        metric[N_EXPRESSION:, -N_INTERIOR:] = _INTERIOR_WEIGHT * np.eye(N_INTERIOR)
        lips = np.pad(self.lips, ((0, N_INTERIOR), (0, 1)))
        lips[N_EXPRESSION, -1] = 1.0
        opening = np.pad(self.opening, (0, N_INTERIOR))
        return Measures(*(a.astype(np.float32) for a in (metric, lips, opening)))


@dataclass(frozen=True)
class Target:
    """Motion (T, N) aligned with the sound, frames to trust (T,), spread of the lip opening."""

    motion: Array
    good: NDArray[np.bool_]
    spread: float


def said_targets(info: ClipInfo, cache: Path, measures: Measures) -> Target | None:
    """:func:`targets` with what is seen between the lips behind the expression, (T, N_SAID)."""
    target = targets(info, cache, measures)
    looks = cached_looks(cache, info.name)
    if target is None or looks is None:
        return None
    codes = InteriorAxes.load().codes(looks)
    codes, _ = earlier(codes, np.ones(len(codes), bool), info.lag)
    frames = min(len(codes), len(target.motion))
    motion = np.concatenate([target.motion[:frames], codes[:frames]], axis=1)
    return Target(motion, target.good[:frames], target.spread)


def targets(info: ClipInfo, cache: Path, measures: Measures) -> Target | None:
    """The target of a clip, or None where there is no use in it.

    Lids are left to life. The opening is shifted so that the tightest lips agree with the tracked
    gap; the other coefficients lose their mean, which is the person's habit, not the speech's.
    """
    path = cache / "face" / f"{info.name}.npz"
    if not path.exists():
        return None
    stored = np.load(path)
    motion, good = stored["expression"].copy(), stored["good"].copy()
    tracked = stored["opening"]
    if good.sum() < 12:
        return None
    motion[:, LIDS] = 0.0
    gaps = measures.opening[:N_EXPRESSION]
    opening = motion @ gaps
    tight = good & (tracked <= np.quantile(tracked[good], 0.25))
    shift = float(np.median(opening[tight] - tracked[tight]))
    motion[:, OPEN] -= shift / gaps[OPEN]
    rest = [k for k in range(N_EXPRESSION) if k != OPEN and k not in LIDS]
    motion[:, rest] -= motion[good][:, rest].mean(axis=0)
    good &= np.abs(motion).max(axis=1) < 8.0
    motion, good = earlier(motion, good, info.lag)
    if good.sum() < 12:
        return None
    spread = float(np.subtract(*np.quantile((motion @ gaps)[good], [0.95, 0.05])))
    return Target(motion.astype(np.float32), good, spread) if spread > 0.03 else None


def earlier(
    motion: Array, good: NDArray[np.bool_], frames: float
) -> tuple[Array, NDArray[np.bool_]]:
    """Motion (T, N) as it is ``frames`` later; frames from beyond the ends are not good."""
    where = np.arange(len(motion)) + frames
    inside = np.clip(where, 0, len(motion) - 1)
    low = np.minimum(inside.astype(int), max(len(motion) - 2, 0))
    high = np.minimum(low + 1, len(motion) - 1)
    share = (inside - low).astype(np.float32)
    moved = motion[low] * (1 - share[:, None]) + motion[high] * share[:, None]
    known = good[np.where(share < 0.99, low, high)] & good[np.where(share > 0.01, high, low)]
    return moved.astype(np.float32), known & (where == inside)


def person_gains(found: dict[str, tuple[str, Target]]) -> dict[str, float]:
    """Factor by person that brings a mumbler's and a mouther's amplitude nearer to the usual."""
    spreads: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for person, target in found.values():
        spreads[person].append((target.spread, len(target.motion)))
    gains = {}
    for person, pairs in spreads.items():
        values, lengths = np.array(pairs).T
        ratio = USUAL_SPREAD / np.average(values, weights=lengths)
        gains[person] = float(np.clip(ratio, 0.55, 2.0) ** 0.7)
    return gains
