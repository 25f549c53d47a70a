"""What a head does besides its lips: turning, blinking, looking, nodding with the voice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from sfumato.eval.decoder_sheets import eye_opening
from sfumato.eval.motion_lips import correlation, filled
from sfumato.latent import Motion
from sfumato.speech import HOPS_PER_FRAME
from sfumato.timebase import FPS

Array = NDArray[np.floating]
Figures = dict[str, float]

BLINK = 0.6  # of the usual opening: below it lids blink
LONGEST_BLINK = 15  # frames; longer is looking down, or closed eyes
BEAT_LAGS = 6  # frames by which a nod may come before or after a stress of the voice
_SMOOTH = np.array([-2, 3, 6, 7, 6, 3, -2]) / 21  # quadratic, 7 frames


def smooth(values: Array) -> Array:
    """Values (T, n) without jitter; shorter by 6 frames."""
    rows = [np.convolve(column, _SMOOTH, "valid") for column in values.T]
    return np.stack(rows, axis=1)


def turning(motion: Motion) -> Figures:
    """Head speed (degrees a frame, lightly smoothed: VASA-1's delta-P), spread of its angles."""
    turns = np.degrees(motion.pose[:, :3].astype(float))
    calm = smooth(turns)
    spread = calm.std(axis=0)
    return {
        "delta_p": float(np.linalg.norm(np.diff(calm, axis=0), axis=1).mean()),
        "yaw_spread": float(spread[0]),
        "pitch_spread": float(spread[1]),
        "roll_spread": float(spread[2]),
    }


def gaze_spread(motion: Motion) -> Figures:
    """Spread of the eyes' angles in the head, degrees."""
    spread = np.degrees(motion.gaze.astype(float)).std(axis=0)
    return {"gaze_yaw_spread": float(spread[0]), "gaze_pitch_spread": float(spread[1])}


def lid_opening(tracks: Array) -> Array:
    """Mean opening (T,) of both eyes over their widths, gaps interpolated; tracks (T, 478, 3)."""
    return filled(eye_opening(tracks))


def blinks(opening: Array) -> list[tuple[int, float]]:
    """Frames and depth (1: the lids meet) of every blink in an opening of lids (T,)."""
    usual = float(np.median(opening))
    shut = opening < BLINK * usual
    starts = np.flatnonzero(shut & ~np.r_[False, shut[:-1]])
    ends = np.flatnonzero(shut & ~np.r_[shut[1:], False])
    return [
        (int(b - a + 1), float(1 - opening[a : b + 1].min() / max(usual, 1e-6)))
        for a, b in zip(starts, ends, strict=True)
        if b - a < LONGEST_BLINK
    ]


def blinking(openings: Iterable[Array]) -> Figures:
    """Blinks a minute, their mean duration (ms below :data:`BLINK`) and completeness (0 to 1)."""
    rows = list(openings)
    minutes = sum(len(row) for row in rows) / FPS / 60
    found = [blink for row in rows for blink in blinks(row)]
    out = {"blink_rate": len(found) / max(minutes, 1e-9), "blinks": float(len(found))}
    if found:
        frames, depth = np.mean(found, axis=0)
        out |= {"blink_duration": 1000 * float(frames) / FPS, "blink_completeness": float(depth)}
    return out


def nod_beat(motion: Motion, sound: Array) -> float:
    """How a head's pitch goes with the stresses of a voice: best correlation within a few frames.

    Args:
        motion: T frames.
        sound: (hops, N_MELS) features of the same time.

    Returns:
        Correlation of the rise of loudness with the size of the pitch's acceleration; by chance it
        is above 0, so compare with sound out of step.
    """
    frames = min(len(motion), len(sound) // HOPS_PER_FRAME)
    loud = sound[: frames * HOPS_PER_FRAME].mean(axis=1).reshape(frames, -1).mean(axis=1)
    rise = np.maximum(np.convolve(np.diff(loud, prepend=loud[0]), np.ones(3) / 3, "same"), 0)
    pitch = np.degrees(motion.pose[:frames, 1:2].astype(float))
    push = np.abs(np.diff(smooth(pitch)[:, 0], 2))  # of frames 4 to T - 5
    rise = rise[4 : 4 + len(push)]
    best = 0.0
    for lag in range(-BEAT_LAGS, BEAT_LAGS + 1):
        one = push[max(lag, 0) : len(push) + min(lag, 0)]
        two = rise[max(-lag, 0) : len(rise) + min(-lag, 0)]
        best = max(best, correlation(one, two))
    return best


def diversity(takes: Sequence[Motion]) -> Figures:
    """How far motions of the same sound by different seeds are from each other.

    Returns:
        ``diversity_pose``, ``diversity_face``: mean distance of two takes at the same time over the
        mean distance of two random times of one take: 0 always the same, 1 as if by chance.
    """
    out = {}
    for name in ("pose", "expression"):
        rows = np.stack([np.asarray(getattr(t, name), float) for t in takes])
        if name == "pose":
            rows = np.degrees(rows[..., :3])
        apart = [
            np.linalg.norm(a - b, axis=1).mean() for i, a in enumerate(rows) for b in rows[i + 1 :]
        ]
        count = rows.shape[1]
        shifts = [count // 3, count // 2, count - count // 3]
        own = [
            np.linalg.norm(r - np.roll(r, s, axis=0), axis=1).mean() for r in rows for s in shifts
        ]
        key = "diversity_pose" if name == "pose" else "diversity_face"
        out[key] = float(np.mean(apart) / max(float(np.mean(own)), 1e-9))
    return out


def clip_figures(motion: Motion, tracks: Array, sound: Array) -> Figures:
    """All of one tracked clip but its blinks, which are counted over all clips."""
    shifted = [np.roll(sound, HOPS_PER_FRAME * k, axis=0) for k in (13, 21, -17)]
    chance = float(np.mean([nod_beat(motion, other) for other in shifted]))
    beat = {"nod_beat": nod_beat(motion, sound) - chance}
    lids = {"lid_usual": float(np.median(lid_opening(tracks)))}
    return turning(motion) | gaze_spread(motion) | beat | lids
