"""Lips of made motion against those of the real clip: correlation, lag, closures.

Lips are measured on landmarks (opening and width of the inner lips), never on a network's own
numbers, so that any generator, and its re-tracked rendering, is judged alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from sfumato.geometry import topology
from sfumato.geometry.distances import apart, eye_distance, lip_opening, lip_width
from sfumato.latent import FaceBasis, Motion

Array = NDArray[np.floating]
Lips = tuple[Array, Array]

MAX_LAG = 8  # frames to either side
CLOSED = 0.15  # share of the real lips' range of opening below which lips count as closed
WIDE = 0.5  # the same from which on they count as wide open
FEWEST_OPEN = 12  # frames with open lips that tell what is seen between them
LONGEST = 7  # frames of a closure; lips that stay shut longer pause


@dataclass(frozen=True)
class LipScores:
    """One clip, made against real.

    Attributes:
        opening_r, width_r: correlation at lag 0.
        lag: frames by which the made lips come late (+) where the opening agrees best.
        closure: share of the real closures (pauses are none) that close here too, within one
            frame; nan: none.
        false_closure: share of wide open real frames that are closed here.
        amplitude: spread of the opening over the real one.
        frames: number of frames compared.
        interior_r: correlation of how light it is between the lips; nan: not judged.
    """

    opening_r: float
    width_r: float
    lag: float
    closure: float
    false_closure: float
    amplitude: float
    frames: int
    interior_r: float = float("nan")


def lips(motion: Motion, basis: FaceBasis) -> Lips:
    """Opening and width (T,) of the inner lips of the neutral mean face moved by ``motion``."""
    shift = motion.expression.astype(np.float64)
    points = [*topology.LIP_MIDDLES, *topology.LIP_CORNERS]
    moved = np.tensordot(shift, basis.expression[:, points], axes=1)
    rows = basis.mean[points] + moved
    opening = np.maximum(rows[:, 1, 1] - rows[:, 0, 1], 0.0)
    return opening, apart(rows[..., :2], (2, 3))


def lip_series(tracks: Array) -> Lips:
    """Opening and width (T,) of the inner lips in outer-eye distances; gaps are interpolated."""
    rows = np.asarray(tracks, np.float64)
    unit = eye_distance(rows)
    return filled(lip_opening(rows[..., :2]) / unit), filled(lip_width(rows) / unit)


def filled(values: Array) -> Array:
    """Values (T,) with those that are not finite interpolated; zeros where none is."""
    good, when = np.isfinite(values), np.arange(len(values))
    if not good.any():
        return np.zeros(len(values))
    found: Array = np.interp(when, when[good], values[good])
    return found


def correlation(a: Array, b: Array) -> float:
    """Pearson; 0 where one of them does not move."""
    spread = float(a.std() * b.std())
    return float(np.mean((a - a.mean()) * (b - b.mean())) / spread) if spread > 1e-9 else 0.0


def interior_r(made: Array, real: Array) -> float:
    """Correlation of the first of (T, 3) numbers each, see :mod:`sfumato.interior`.

    Where the real lips are open; nan where that is hardly ever.
    """
    seen = real.any(axis=1)
    if seen.sum() < FEWEST_OPEN:
        return float("nan")
    return correlation(made[seen, 0], real[seen, 0])


def best_lag(made: Array, real: Array) -> float:
    """Frames that ``made`` is late where it fits ``real`` best, within ``MAX_LAG``.

    Between whole frames the peak of a parabola through the best three counts.
    """
    count = len(real)

    def fit(lag: int) -> float:
        if lag >= 0:
            return correlation(made[lag:], real[: count - lag])
        return correlation(made[:lag], real[-lag:])

    most = min(MAX_LAG, count // 3)
    curve = {lag: fit(lag) for lag in range(-most, most + 1)}
    best = max(curve, key=lambda lag: curve[lag])
    if abs(best) == most:
        return float(best)
    left, middle, right = (curve[best + k] for k in (-1, 0, 1))
    bend = left - 2 * middle + right
    return best + (0.5 * (left - right) / bend if bend < -1e-9 else 0.0)


def closed_level(opening: Array) -> float:
    """Opening up to which a person's lips count as closed, from the real opening (T,)."""
    return _level(opening, CLOSED)


def _level(opening: Array, share: float) -> float:
    low, high = np.quantile(opening, [0.02, 0.95])
    return float(low + share * (high - low))


def score_lips(made: Lips, real: Lips, same_face: bool = False) -> LipScores:
    """Compares opening and width (T,) of the same frames.

    Args:
        same_face: both are the same person's, seen by the same tracker, so that closed is what is
            closed on the real one. Else each has its own range, and lips that never close in
            ``made`` cannot be told.
    """
    opening, width = made
    real_opening, real_width = real
    level = closed_level(real_opening)
    closed = opening <= (level if same_face else closed_level(opening))
    real_closed = real_opening <= level
    near = closed | np.r_[closed[1:], False] | np.r_[False, closed[:-1]]
    wide = real_opening > _level(real_opening, WIDE)
    # Closures are events: short runs of closed frames.
    starts = np.flatnonzero(real_closed & ~np.r_[False, real_closed[:-1]])
    ends = np.flatnonzero(real_closed & ~np.r_[real_closed[1:], False])
    runs = [(a, b) for a, b in zip(starts, ends, strict=True) if b - a < LONGEST]
    met = [near[a : b + 1].any() for a, b in runs]
    spread = np.subtract(*np.quantile(opening, [0.95, 0.05]))
    real_spread = np.subtract(*np.quantile(real_opening, [0.95, 0.05]))
    return LipScores(
        correlation(opening, real_opening),
        correlation(width, real_width),
        best_lag(opening, real_opening),
        float(np.mean(met)) if met else float("nan"),
        float(closed[wide].mean()) if wide.any() else float("nan"),
        float(spread / max(real_spread, 1e-6)),
        len(opening),
    )


def summarise(scores: Iterable[LipScores]) -> dict[str, float]:
    """Means over clips, weighed by their frames; lag and amplitude: medians. Adds ``clips``."""
    found = list(scores)
    if not found:
        return {}
    rows = {k: np.array([asdict(s)[k] for s in found], float) for k in asdict(found[0])}
    weights = rows["frames"]
    mean = {}
    for name, values in rows.items():
        known = np.isfinite(values)
        if known.any():
            mean[name] = float(np.average(values[known], weights=weights[known]))
    # A person who hardly moves the lips would decide the mean of a ratio.
    mean |= {k: float(np.median(rows[k])) for k in ("lag", "amplitude")}
    return mean | {"frames": float(weights.sum()), "clips": float(len(found))}


def grouped(scores: Mapping[str, LipScores], groups: Mapping[str, str]) -> dict[str, float]:
    """:func:`summarise` of every group of clips, flat: ``<group>_<measure>``.

    Args:
        scores: by clip.
        groups: group by clip.
    """
    out = {}
    for group in sorted(set(groups.values())):
        means = summarise(s for name, s in scores.items() if groups[name] == group)
        out |= {f"{group}_{key}": value for key, value in means.items()}
    return out
