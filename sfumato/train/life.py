"""Fits the statistics of :mod:`sfumato.life` to real, tracked people."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.signal import savgol_filter

from sfumato import life
from sfumato.corpus import ClipInfo
from sfumato.latent import EXPRESSION_NAMES, N_EXPRESSION, FaceBasis
from sfumato.motion import MotionGenerator
from sfumato.timebase import FPS
from sfumato.train.motion_targets import LIDS

Array = NDArray[np.floating]

WINDOW = 4 * FPS
FEWEST_CLIPS = 5  # of a window's length
BROWS = EXPRESSION_NAMES.index("brows_up")
SHUT = 1.03  # closed lids press a little
BLINK_SHARE = 0.35  # of full closure above the usual lids: tracked lids seldom meet


@dataclass(frozen=True)
class Faces:
    """Tracked real people: pose (T, 6), expression (T, N), gaze (T, 2) of each clip."""

    pose: list[Array]
    expression: list[Array]
    gaze: list[Array]


def load_faces(infos: Iterable[ClipInfo], cache: Path) -> Faces:
    """Real clips of at least three seconds that were tracked throughout; few of one person."""
    found, heard = Faces([], [], []), dict[str, int]()
    for info in infos:
        path = cache / "face" / f"{info.name}.npz"
        if info.kind != "real" or info.split != "train" or not path.exists():
            continue
        stored = np.load(path)
        if len(stored["good"]) < 3 * FPS or stored["good"].mean() < 0.97:
            continue
        heard[info.person] = heard.get(info.person, 0) + 1
        if heard[info.person] > 6:
            continue
        for name in ("pose", "expression", "gaze"):
            getattr(found, name).append(stored[name])
    return found


def head_measures(poses: Sequence[Array]) -> dict[str, float]:
    """How heads move: speed (degrees a frame, lightly smoothed), its quantiles, memory, spread."""
    speeds, memory, spread = [], [], []
    for pose in poses:
        smooth = savgol_filter(pose, 7, 2, axis=0)
        speeds.append(np.degrees(np.linalg.norm(np.diff(smooth[:, :3], axis=0), axis=1)))
        for start in range(0, len(smooth) - WINDOW + 1, WINDOW):
            part = smooth[start : start + WINDOW, :3]
            part = part - part.mean(axis=0)
            power = np.maximum((part**2).mean(axis=0), 1e-9)
            memory.append([(part[:-k] * part[k:]).mean(axis=0) / power for k in (5, 12, 25)])
            spread.append(np.degrees(np.sqrt(power)))
    mean = np.array([s.mean() for s in speeds])
    out = {"delta_p": float(np.median(mean))}
    ranks = np.median([np.quantile(s, [0.1, 0.5, 0.9]) for s in speeds], axis=0)
    out |= dict(zip(("slow", "middle", "fast"), map(float, ranks), strict=True))
    out |= dict(zip(("acf5", "acf12", "acf25"), np.mean(memory, axis=(0, 2)), strict=True))
    out |= dict(zip(("yaw", "pitch", "roll"), map(float, np.median(spread, axis=0)), strict=True))
    return {k: float(v) for k, v in out.items()}


def simulate(stats: life.LifeStats, seconds: int, seed: int) -> Array:
    """Head poses (T, 6) of somebody who speaks in phrases."""
    state, poses = life.LifeState(), []
    rng = np.random.default_rng(seed)
    voice, left = 1.0, 60
    for _ in range(seconds * FPS):
        left -= 1
        if left <= 0:
            voice = 1.0 - voice
            left = int(rng.integers(40, 100) if voice else rng.integers(6, 25))
        energy = 0.5 * float(rng.standard_normal()) if voice else -1.5
        state, shown = life.step(stats, state, seed, voice, energy)
        poses.append(shown.pose)
    return np.array(poses)


def fit_head(stats: life.LifeStats, real: dict[str, float]) -> life.LifeStats:
    """The best of a grid of head parameters: made heads measured as the real ones were."""
    best, cost = stats, np.inf
    grid = itertools.product((0.7, 1.1, 1.6), (7.0, 9.0, 11.0), (0.1, 0.15, 0.2), (0.55, 0.75, 1.0))
    for moves, stiffness, sway, size in grid:
        factor = np.asarray(stats.pose_factor) * size
        trial = replace(
            stats,
            moves_speaking=moves,
            moves_silent=0.4 * moves,
            stiffness=stiffness,
            sway=sway / size,
            pose_factor=tuple(map(tuple, factor.tolist())),
        )
        made = head_measures([simulate(trial, 40, 7)])
        error = sum(np.log(made[k] / real[k]) ** 2 for k in real if not k.startswith("acf"))
        error += sum(4 * (made[k] - real[k]) ** 2 for k in real if k.startswith("acf"))
        error += 3 * np.log(made["delta_p"] / real["delta_p"]) ** 2
        if error < cost:
            best, cost = trial, error
    return best


def find_blinks(expression: Array, limit: float) -> list[int]:
    """Frames in the middle of blinks: lids ``limit`` beyond their usual place, for a short time."""
    lids = expression[:, list(LIDS)].mean(axis=1)
    shut = lids - np.median(lids) > limit
    edges = np.flatnonzero(np.diff(np.r_[0, shut.astype(int), 0]))
    return [(a + b) // 2 for a, b in zip(edges[::2], edges[1::2], strict=True) if b - a <= 10]


def blink_rate(expressions: Sequence[Array], limit: float) -> float:
    """Blinks a minute over all clips together."""
    minutes = sum(len(e) for e in expressions) / FPS / 60
    return sum(len(find_blinks(e, limit)) for e in expressions) / minutes


def shut_lids(basis: FaceBasis) -> Array:
    """Expression (N,) of closed lids."""
    move = np.zeros(N_EXPRESSION)
    move[list(LIDS)] = SHUT * basis.blink_shut
    return move


def fit_life(infos: Iterable[ClipInfo], cache: Path, basis: FaceBasis) -> life.LifeStats:
    """Statistics of all real clips in the cache; of the shipped network where they are too few."""
    faces = load_faces(infos, cache)
    if sum(len(pose) >= WINDOW for pose in faces.pose) < FEWEST_CLIPS:
        return MotionGenerator.load().stats
    centred = [p - np.median(p, axis=0) for p in faces.pose]
    everything = np.concatenate([np.clip(p, -0.4, 0.4) for p in centred])
    factor = np.linalg.cholesky(np.cov(everything.T) + 1e-8 * np.eye(6))
    gaze = np.concatenate([g - np.median(g, axis=0) for g in faces.gaze])
    expression = np.concatenate(faces.expression)
    lids = expression[:, list(LIDS)].mean(axis=1)
    limit = BLINK_SHARE * float(basis.blink_shut.mean())
    calm = np.abs(lids - np.median(lids)) < limit
    pitch = np.concatenate(faces.gaze)[calm, 1]
    slope = float(np.polyfit(pitch, lids[calm], 1)[0])
    lids_down = np.zeros(N_EXPRESSION)
    lids_down[list(LIDS)] = np.clip(slope, 0.0, 4.0)
    brows = np.zeros(N_EXPRESSION)
    brows[BROWS] = 1.5 * float(np.std(expression[:, BROWS]))
    stats = life.LifeStats(
        pose_factor=tuple(map(tuple, factor.tolist())),
        shut=tuple(shut_lids(basis).tolist()),
        brows=tuple(brows.tolist()),
        lids_down=tuple(lids_down.tolist()),
        blinks_a_minute=float(np.clip(blink_rate(faces.expression, limit), 15.0, 28.0)),
        saccade=(float(gaze[:, 0].std()), float(gaze[:, 1].std())),
    )
    return fit_head(stats, head_measures(faces.pose))
