"""What only long motion shows: drift over ten minutes, and how alike two seeds are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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


def drift(speak: Speak, minute: Samples, basis: FaceBasis, minutes: int = 10) -> dict[str, object]:
    """The last minute against the first, while the same minute of speech comes again and again.

    Returns:
        ``drift_max``: largest change of a statistic, as a share of its value (of a mean angle or
        size: of its spread over the whole); ``drift_max_of`` which one; ``drift_lips_max`` among
        the lips'; ``drift``: ``[change, chance]`` by statistic, where chance is the usual change
        between two minutes without drift, from the minutes between.
    """
    motion = speak(np.tile(minute, minutes), 0)
    parts = [motion[i * MINUTE : (i + 1) * MINUTE] for i in range(minutes)]
    rows = [minute_figures(part, basis) for part in parts]
    whole = np.degrees(motion.pose[:, :3].astype(float)).std(axis=0)
    scale = dict(zip(("yaw", "pitch", "roll"), whole, strict=True))
    scale["size"] = float(motion.pose[:, 5].std())
    table = {}
    for name in rows[0]:
        values = np.array([row[name] for row in rows])
        unit = max(float(scale.get(name, np.abs(values).mean())), 1e-6)
        change = abs(values[-1] - values[0]) / unit
        chance = np.sqrt(2) * values[1:-1].std(ddof=1) / unit if minutes > 3 else float("nan")
        table[name] = [float(change), float(chance)]
    worst = max(table, key=lambda name: table[name][0])
    return {
        "drift_max": table[worst][0],
        "drift_max_chance": table[worst][1],
        "drift_max_of": worst,
        "drift_lips_max": max(table[name][0] for name in LIPS),
        "drift": table,
    }


def seeds(speak: Speak, minute: Samples, count: int = 3) -> Figures:
    """:func:`diversity` of half a minute."""
    return diversity([speak(minute[: len(minute) // 2], seed) for seed in range(count)])


def rest_in_silence(speak: Speak, basis: FaceBasis) -> float:
    """Mean lip opening (face units) over ten seconds of silence with faint noise."""
    noise = np.random.default_rng(0).standard_normal(10 * SAMPLE_RATE) * 10 ** (-66 / 20)
    return float(lips(speak(noise.astype(np.float32), 0), basis)[0].mean())
