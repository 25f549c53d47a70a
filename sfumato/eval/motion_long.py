"""What only long motion shows: drift over ten minutes, and how alike two seeds are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from sfumato.eval.motion_life import blinks, diversity, turning
from sfumato.eval.motion_lips import lips
from sfumato.latent import FaceBasis, Motion
from sfumato.timebase import FPS, SAMPLE_RATE

Array = NDArray[np.floating]
Samples = NDArray[np.float32]
Speak = Callable[[Samples, int], Motion]
Figures = dict[str, float]

MINUTE = 60 * FPS  # frames
TAKES = 4  # of ten minutes
LIPS = ("opening", "opening_spread", "width", "width_spread")


def minute_of(sounds: Sequence[Samples]) -> Samples:
    """One minute of speech: the recordings one after the other, all of one loudness, repeated."""
    level = [s * (0.06 / max(float(np.sqrt(np.mean(s**2))), 1e-4)) for s in sounds]
    joined = np.concatenate(level)
    times = -(-60 * SAMPLE_RATE // max(len(joined), 1))
    return np.clip(np.tile(joined, times)[: 60 * SAMPLE_RATE], -1, 1).astype(np.float32)


def minute_figures(motion: Motion, basis: FaceBasis) -> Figures:
    """Statistics of a minute: lips in face units, head and eyes in degrees."""
    opening, width = lips(motion, basis)
    lids = 1 - motion.expression[:, :2].mean(axis=1) / float(basis.blink_shut.mean())
    turns = np.degrees(motion.pose[:, :3].astype(float)).mean(axis=0)
    gaze = np.degrees(motion.gaze.astype(float))
    return {
        "opening": float(opening.mean()),
        "opening_spread": float(opening.std()),
        "width": float(width.mean()),
        "width_spread": float(width.std()),
        "face_spread": float(motion.expression.std(axis=0).mean()),
        **turning(motion),
        "yaw": float(turns[0]),
        "pitch": float(turns[1]),
        "roll": float(turns[2]),
        "size": float(motion.pose[:, 5].mean()),
        "gaze_spread": float(gaze.std(axis=0).mean()),
        "lids": float(lids.mean()),
        "blink_rate": float(len(blinks(lids))),
    }


def drift(
    speak: Speak, minute: Samples, basis: FaceBasis, minutes: int = 10, takes: int = TAKES
) -> dict[str, object]:
    """The last minute against the first, while the same minute of speech comes again and again.

    Two minutes of a head differ by chance far more than by drift, so the mean change of several
    takes is held against how much such a mean changes by chance.

    Args:
        minute: by :func:`minute_of`.
        takes: seeds.

    Returns:
        ``drift_max``: largest change of a statistic, as a share of its value (of a mean angle or
        size: of its spread over the whole); ``drift_max_of`` which one; ``drift_max_chance`` its
        chance; ``drift_lips_max`` among the lips'; ``drift_sure``: the largest change beyond twice
        its chance; ``drift``: ``[change, chance]`` by statistic, where chance is the standard
        deviation of the change without drift, from the minutes between.
    """
    sound = np.tile(minute, minutes)
    with ThreadPoolExecutor(takes) as pool:
        motions = list(pool.map(lambda seed: speak(sound, seed), range(takes)))
    rows = [
        [minute_figures(motion[i * MINUTE : (i + 1) * MINUTE], basis) for i in range(minutes)]
        for motion in motions
    ]
    turns = [np.degrees(motion.pose[:, :3].astype(float)).std(axis=0) for motion in motions]
    scale = dict(zip(("yaw", "pitch", "roll"), np.mean(turns, axis=0), strict=True))
    scale["size"] = np.mean([motion.pose[:, 5].std() for motion in motions])
    table = {}
    for name in rows[0][0]:
        values = np.array([[row[name] for row in take] for take in rows])
        unit = max(float(scale.get(name, np.abs(values).mean())), 1e-6)
        change = abs((values[:, -1] - values[:, 0]).mean()) / unit
        usual = np.sqrt(values[:, 1:-1].var(axis=1, ddof=1).mean()) if minutes > 3 else np.nan
        table[name] = [float(change), float(np.sqrt(2 / takes) * usual / unit)]
    worst = max(table, key=lambda name: table[name][0])
    return {
        "drift_max": table[worst][0],
        "drift_max_chance": table[worst][1],
        "drift_max_of": worst,
        "drift_lips_max": max(table[name][0] for name in LIPS),
        "drift_sure": max(0.0, *(change - 2 * chance for change, chance in table.values())),
        "drift": table,
    }


def seeds(speak: Speak, minute: Samples, count: int = 3) -> Figures:
    """:func:`diversity` of half a minute."""
    return diversity([speak(minute[: len(minute) // 2], seed) for seed in range(count)])


def rest_in_silence(speak: Speak, basis: FaceBasis) -> float:
    """Mean lip opening (face units) over ten seconds of silence with faint noise."""
    noise = np.random.default_rng(0).standard_normal(10 * SAMPLE_RATE) * 10 ** (-66 / 20)
    return float(lips(speak(noise.astype(np.float32), 0), basis)[0].mean())
