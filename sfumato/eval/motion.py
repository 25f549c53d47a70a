"""Measures of motion against real, tracked people: lips, closure, rest, head, blinks.

Lips are measured on landmarks (opening and width of the inner lips), never on the network's own
numbers, so that any generator, and later the re-tracked rendering, is judged alike.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sfumato.latent import FaceBasis, Motion
from sfumato.timebase import FPS, SAMPLE_RATE

Array = NDArray[np.floating]

MAX_LAG = 8  # frames to either side
CLOSED = 0.15  # share of the range of opening below which lips count as closed


@dataclass(frozen=True)
class LipScores:
    """One clip, made against real.

    Attributes:
        opening_r, width_r: correlation at lag 0.
        lag: frames by which the made lips come late (+) where the opening agrees best.
        closure: share of the real closures that close here too, within one frame; nan: none.
        false_closure: share of wide open real frames that are closed here.
        amplitude: spread of the opening over the real one.
        frames: number of frames compared.
    """

    opening_r: float
    width_r: float
    lag: float
    closure: float
    false_closure: float
    amplitude: float
    frames: int


def lips(motion: Motion, basis: FaceBasis) -> tuple[Array, Array]:
    """Opening and width (T,) of the inner lips of the neutral mean face moved by ``motion``."""
    shift = motion.expression.astype(np.float64)
    rows = basis.mean[[13, 14, 78, 308]] + np.tensordot(
        shift, basis.expression[:, [13, 14, 78, 308]], axes=1
    )
    opening = np.maximum(rows[:, 1, 1] - rows[:, 0, 1], 0.0)
    width: Array = np.linalg.norm(rows[:, 3, :2] - rows[:, 2, :2], axis=1)
    return opening, width


def correlation(a: Array, b: Array) -> float:
    """Pearson; 0 where one of them does not move."""
    spread = float(a.std() * b.std())
    return float(np.mean((a - a.mean()) * (b - b.mean())) / spread) if spread > 1e-9 else 0.0


def best_lag(made: Array, real: Array) -> int:
    """Frames that ``made`` is late where it fits ``real`` best, within ``MAX_LAG``."""
    count = len(real)

    def fit(lag: int) -> float:
        if lag >= 0:
            return correlation(made[lag:], real[: count - lag])
        return correlation(made[:lag], real[-lag:])

    most = min(MAX_LAG, count // 3)
    return max(range(-most, most + 1), key=fit)


def score_lips(made: tuple[Array, Array], real: tuple[Array, Array]) -> LipScores:
    """Compares opening and width (T,) of the same frames."""
    opening, width = made
    real_opening, real_width = real
    closed, real_closed = _closed(opening), _closed(real_opening)
    near = closed | np.r_[closed[1:], False] | np.r_[False, closed[:-1]]
    wide = real_opening > np.quantile(real_opening, 0.7)
    # Closures are events: runs of closed frames.
    starts = np.flatnonzero(real_closed & ~np.r_[False, real_closed[:-1]])
    ends = np.flatnonzero(real_closed & ~np.r_[real_closed[1:], False])
    met = [near[a : b + 1].any() for a, b in zip(starts, ends, strict=True)]
    spread = np.subtract(*np.quantile(opening, [0.95, 0.05]))
    real_spread = np.subtract(*np.quantile(real_opening, [0.95, 0.05]))
    return LipScores(
        correlation(opening, real_opening),
        correlation(width, real_width),
        float(best_lag(opening, real_opening)),
        float(np.mean(met)) if met else float("nan"),
        float(closed[wide].mean()),
        float(spread / max(real_spread, 1e-6)),
        len(opening),
    )


def _closed(opening: Array) -> NDArray[np.bool_]:
    low, high = np.quantile(opening, [0.02, 0.95])
    closed: NDArray[np.bool_] = opening <= low + CLOSED * (high - low)
    return closed


def summarise(scores: Iterable[tuple[str, LipScores]]) -> dict[str, dict[str, float]]:
    """Means by group, clips weighed by their frames; the lag is the median. Adds ``clips``."""
    groups: dict[str, list[LipScores]] = defaultdict(list)
    for group, score in scores:
        groups[group].append(score)
    out = {}
    for group, found in groups.items():
        rows = {k: np.array([asdict(s)[k] for s in found], float) for k in asdict(found[0])}
        weights = rows["frames"]
        mean = {}
        for name, values in rows.items():
            known = np.isfinite(values)
            if known.any():
                mean[name] = float(np.average(values[known], weights=weights[known]))
        mean |= {"lag": float(np.median(rows["lag"])), "frames": float(weights.sum())}
        out[group] = mean | {"clips": float(len(found))}
    return out


def evaluate_lips(
    clips: Iterable[tuple[str, Array, Path]],
    speak: Callable[[NDArray[np.float32]], Motion],
    basis: FaceBasis,
) -> dict[str, dict[str, float]]:
    """Runs a generator over recordings and compares with their tracked faces.

    Args:
        clips: (group, samples (n,), cached face of :func:`sfumato.train.motion_cache.cache_face`).
        speak: samples to motion.
        basis: of the motion.
    """
    scores = []
    for group, samples, face in clips:
        stored = np.load(face)
        made = lips(speak(np.asarray(samples, np.float32)), basis)
        count = min(len(made[0]), len(stored["good"]))
        good = stored["good"][:count]
        if good.sum() < FPS:
            continue
        real = tuple(stored[k][:count][good].astype(float) for k in ("opening", "width"))
        mine = tuple(a[:count][good] for a in made)
        scores.append((group, score_lips((mine[0], mine[1]), (real[0], real[1]))))
    return summarise(scores)


def life_measures(motion: Motion, lid: int = 0) -> dict[str, float]:
    """Head speed (degrees a frame), spread of the angles (degrees), blinks a minute."""
    turns = np.degrees(motion.pose[:, :3].astype(float))
    kernel = np.array([-2, 3, 6, 7, 6, 3, -2]) / 21  # quadratic, 7 frames
    smooth = np.stack([np.convolve(t, kernel, "valid") for t in turns.T], axis=1)
    lids = motion.expression[:, lid]
    shut = lids > 0.5 * max(float(lids.max()), 1e-6)
    blinks = int((np.diff(shut.astype(int)) == 1).sum())
    spread = turns.std(axis=0)
    return {
        "delta_p": float(np.linalg.norm(np.diff(smooth, axis=0), axis=1).mean()),
        "yaw": float(spread[0]),
        "pitch": float(spread[1]),
        "roll": float(spread[2]),
        "blinks_a_minute": blinks / (len(motion) / FPS / 60),
    }


def rest_in_silence(speak: Callable[[NDArray[np.float32]], Motion], basis: FaceBasis) -> float:
    """Mean lip opening (face units) over ten seconds of silence with faint noise."""
    noise = np.random.default_rng(0).standard_normal(10 * SAMPLE_RATE) * 10 ** (-66 / 20)
    return float(lips(speak(noise.astype(np.float32)), basis)[0].mean())
