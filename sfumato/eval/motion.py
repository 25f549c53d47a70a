"""Measures of motion against real, tracked people: lips, closure, rest, head, blinks.

Lips are measured on landmarks (opening and width of the inner lips), never on the network's own
numbers, so that any generator, and later the re-tracked rendering, is judged alike.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sfumato.corpus import HELD_OUT_SPEAKERS, ClipInfo, read_index
from sfumato.errors import InputError
from sfumato.geometry.topology import OUTER_CORNERS
from sfumato.latent import FaceBasis, Motion
from sfumato.media.audio import AudioReader
from sfumato.motion import MotionGenerator, MotionStream
from sfumato.timebase import FPS, SAMPLE_RATE

Array = NDArray[np.floating]

MAX_LAG = 8  # frames to either side
LIFE_SECONDS = 180
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
    """Means by group, clips weighed by their frames; lag and amplitude: medians. Adds ``clips``."""
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
        # A person who hardly moves the lips would decide the mean of a ratio.
        mean |= {k: float(np.median(rows[k])) for k in ("lag", "amplitude")}
        mean["frames"] = float(weights.sum())
        out[group] = mean | {"clips": float(len(found))}
    return out


def evaluate_lips(
    clips: Iterable[tuple[str, NDArray[np.float32], Array]],
    speak: Callable[[NDArray[np.float32]], Motion],
    basis: FaceBasis,
) -> dict[str, dict[str, float]]:
    """Runs a generator over recordings and compares with their tracked faces.

    Args:
        clips: (group, samples (n,), tracks (T, 478, 3) pixels, nan where no face was found).
        speak: samples to motion.
        basis: of the motion.

    Returns:
        Scores by group (:func:`summarise`), with quantiles and speed of the opening, made and real.
    """
    scores, shapes = [], defaultdict(list)
    for group, samples, tracks in clips:
        made = lips(speak(samples), basis)
        real = tracked_lips(tracks)
        count = min(len(made[0]), len(tracks))
        good = np.isfinite(real[0][:count])
        if good.sum() < FPS:
            continue
        mine, true = [(o[:count][good], w[:count][good]) for o, w in (made, real)]
        scores.append((group, score_lips(mine, true)))
        shapes[group].append((mine[0], true[0]))
    out = summarise(scores)
    for group, pairs in shapes.items():
        for name, openings in zip(("made", "real"), zip(*pairs, strict=True), strict=True):
            out[group] |= {f"{name}_{k}": v for k, v in opening_measures(openings).items()}
    return out


def tracked_lips(tracks: Array) -> tuple[Array, Array]:
    """Opening and width (T,) of tracked inner lips over the distance of the outer eye corners."""

    def apart(a: int, b: int) -> Array:
        distance: Array = np.linalg.norm(tracks[:, a, :2] - tracks[:, b, :2], axis=1)
        return distance

    eyes = apart(*OUTER_CORNERS)
    return apart(13, 14) / eyes, apart(78, 308) / eyes


def opening_measures(openings: Iterable[Array]) -> dict[str, float]:
    """Quantiles (face units) and mean speed (a second) of the lips' opening of some clips."""
    found = list(openings)
    low, middle, high = np.quantile(np.concatenate(found), [0.05, 0.5, 0.95])
    speed = np.concatenate([np.abs(np.diff(o)) for o in found]).mean() * FPS
    return {"q05": float(low), "q50": float(middle), "q95": float(high), "speed": float(speed)}


def evaluate_motion(folder: Path, tracks: Path) -> dict[str, dict[str, float]]:
    """Measures the shipped generator on clips that it never learned from.

    Args:
        folder: clips, with ``index.tsv`` (held-out clips are taken, by group) or without (all).
        tracks: their labels, ``<name>.npz`` by teacher.py; clips without are left out.

    Returns:
        Measures by group of clips, ``life`` and ``silence``.

    Raises:
        InputError: No held-out clip has labels.
    """
    generator, basis = MotionGenerator.load(), FaceBasis.load()

    def speak(samples: NDArray[np.float32]) -> Motion:
        stream = MotionStream(generator)
        return Motion.concat([stream.push(samples), stream.flush()])

    given = (folder / "index.tsv").exists() if folder.is_dir() else True
    sounds: list[NDArray[np.float32]] = []

    def clips() -> Iterator[tuple[str, NDArray[np.float32], Array]]:
        for clip in read_index(folder):
            labels, group = tracks / f"{clip.name}.npz", lip_group(clip) if given else "all"
            if group is None or not clip.synced or not labels.exists():
                continue
            with AudioReader(clip.path) as reader:
                sounds.append(np.concatenate(list(reader)))
            yield group, sounds[-1], np.load(labels)["landmarks"].astype(float)

    out = evaluate_lips(clips(), speak, basis)
    if not out:
        raise InputError(f"No held-out clip of {folder} has labels in {tracks}: run teacher.py.")
    joined = np.concatenate(sounds)[: LIFE_SECONDS * SAMPLE_RATE]
    out["life"] = life_measures(speak(joined))
    out["silence"] = {"opening": rest_in_silence(speak, basis)}
    return out


def lip_group(clip: ClipInfo) -> str | None:
    """The group of a held-out clip whose sound fits its lips; None for any other clip."""
    new = clip.source in HELD_OUT_SPEAKERS
    if not clip.trusted or not (new or clip.split == "test"):
        return None
    if new:
        return "robustl2s_new" if clip.source == "robustl2s" else "grid_new"
    if clip.kind != "real":
        return "song" if clip.content in {"song", "rap"} else "generated"
    return {"grid_s1": "grid_seen", "grid_lpr": "grid_seen", "lrc_ar": "anchors"}.get(
        clip.source, "wild"
    )


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
