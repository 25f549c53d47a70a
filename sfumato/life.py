"""What a living head does besides speaking: it moves, looks, blinks, raises its brows, breathes.

One step a frame. All chance comes from ``default_rng((seed, frame))``, so the same seed gives the
same life whatever pieces the sound arrives in, and the state is a plain value. The figures are
fitted to real people (:mod:`sfumato.train.life`) and travel with the weights.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from sfumato.timebase import FPS

Array = NDArray[np.float32]

_CLOSING, _SHUT, _OPENING = 0.09, 0.05, 0.17  # seconds of a blink (Schiffman 2001; our tracks)
_EYE_LIMIT = np.radians(18.0)


@dataclass(frozen=True)
class LifeStats:
    """Statistics of real people that life is drawn from.

    Attributes:
        pose_factor: (6, 6) lower factor of the covariance of the relative pose.
        moves_speaking, moves_silent: new head goals a second.
        stiffness: natural frequency of a head move, radians a second.
        sway: spread of the head's small unrest, as a share of ``pose_factor``.
        nod: downward turn of a stressed syllable, radians.
        blinks_a_minute: mean rate; blink_spread: spread of the log interval.
        shut: (N,) expression of closed lids; brows: (N,) expression of raised brows;
        lids_down: (N,) expression that follows one radian of downward gaze.
        saccade: (2,) spread of glances away from the viewer, radians.
    """

    pose_factor: tuple[tuple[float, ...], ...]
    shut: tuple[float, ...]
    brows: tuple[float, ...]
    lids_down: tuple[float, ...]
    moves_speaking: float = 1.1
    moves_silent: float = 0.4
    stiffness: float = 7.0
    sway: float = 0.12
    nod: float = 0.03
    blinks_a_minute: float = 24.0
    blink_spread: float = 0.6
    saccade: tuple[float, float] = (0.075, 0.04)


@dataclass(frozen=True)
class LifeState:
    """Everything that life remembers from frame to frame."""

    frame: int = 0
    pose: Array = field(default_factory=lambda: np.zeros(6, np.float32))
    speed: Array = field(default_factory=lambda: np.zeros(6, np.float32))
    goal: Array = field(default_factory=lambda: np.zeros(6, np.float32))
    sway: Array = field(default_factory=lambda: np.zeros(6, np.float32))
    sway_speed: Array = field(default_factory=lambda: np.zeros(6, np.float32))
    stiffness: float = 5.0
    nod: float = 0.0
    nod_speed: float = 0.0
    nod_goal: float = 0.0
    brow: float = 0.0
    brow_goal: float = 0.0
    gaze: Array = field(default_factory=lambda: np.zeros(2, np.float32))
    glance: Array = field(default_factory=lambda: np.zeros(2, np.float32))
    until_saccade: float = 0.8
    blink_age: float = 9.0
    until_blink: float = 1.2
    breath: float = 0.0
    energy: float = -2.0
    voice: float = 0.0
    rest: int = 0


@dataclass(frozen=True)
class Life:
    """One frame of life: pose (6,), gaze (2,), breath, and what it adds to the expression (N,).

    ``lids`` in [0, 1] says how far the lids are shut; the expression's own lids give way to it.
    """

    pose: Array
    gaze: Array
    breath: float
    brow: float
    lids: float


def step(
    stats: LifeStats, state: LifeState, seed: int, voice: float, energy: float
) -> tuple[LifeState, Life]:
    """Lives through one frame.

    Args:
        stats: of real people.
        state: before the frame.
        seed: of the whole recording.
        voice: probability that somebody speaks now.
        energy: normalised loudness of the frame (feature units).

    Returns:
        The state after the frame and what to show.
    """
    rng = np.random.default_rng((seed, state.frame))
    normal, uniform = rng.standard_normal(24).astype(np.float32), rng.random(8)
    begins = voice > 0.5 and state.rest > 5
    state = replace(
        state, rest=0 if voice > 0.5 else state.rest + 1, voice=0.8 * state.voice + 0.2 * voice
    )
    state = _accent(stats, state, voice, energy, normal[:3], uniform[:2])
    state = _head(stats, state, begins, normal[3:16], uniform[2:4])
    state, saccade = _look(stats, state, normal[16:20], uniform[4:6])
    state = _blink(stats, state, saccade, begins, float(normal[20]), uniform[6:8])
    state = _breathe(state, float(normal[21]))
    shown = Life(
        pose=_shown_pose(state),
        gaze=_shown_gaze(state),
        breath=0.5 - 0.5 * float(np.cos(2 * np.pi * state.breath)),
        brow=state.brow,
        lids=lid_closure(state.blink_age),
    )
    return replace(state, frame=state.frame + 1), shown


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


def _accent(
    stats: LifeStats,
    state: LifeState,
    voice: float,
    energy: float,
    normal: Array,
    uniform: NDArray[np.float64],
) -> LifeState:
    """Stressed syllables: loudness jumps by half a unit; some bring a nod, some a brow raise."""
    slow = state.energy + 0.12 * (energy - state.energy)
    stressed = voice > 0.5 and energy - state.energy > 0.5
    nod_goal, brow_goal = state.nod_goal * 0.80, state.brow_goal * 0.90
    if stressed and uniform[0] < 0.35:
        nod_goal = stats.nod * float(np.exp(0.5 * normal[0])) * (1.0 if normal[1] > -0.7 else -0.6)
    if stressed and uniform[1] < 0.10:
        brow_goal = 0.5 + 0.3 * abs(float(normal[2]))
    push = 144.0 * (nod_goal - state.nod) - 24.0 * state.nod_speed
    nod_speed = state.nod_speed + push / FPS
    return replace(
        state,
        energy=slow,
        nod_goal=nod_goal,
        nod_speed=nod_speed,
        nod=state.nod + nod_speed / FPS,
        brow_goal=brow_goal,
        brow=state.brow + 0.3 * (brow_goal - state.brow),
    )


def _head(
    stats: LifeStats, state: LifeState, begins: bool, normal: Array, uniform: NDArray[np.float64]
) -> LifeState:
    """A spring pulls the head to goals that change now and then; a small unrest is added."""
    factor = np.asarray(stats.pose_factor, np.float32)
    rate = stats.moves_silent + (stats.moves_speaking - stats.moves_silent) * state.voice
    goal, stiffness = state.goal, state.stiffness
    if uniform[0] < rate / FPS or (begins and uniform[1] < 0.5):
        reach = 0.75 + 0.25 * state.voice
        goal = 0.45 * state.goal + 0.95 * reach * (factor @ normal[:6])
        stiffness = stats.stiffness * float(np.exp(0.25 * normal[6]))
    pull = stiffness**2 * (goal - state.pose) - 2.0 * stiffness * state.speed
    speed = state.speed + pull / FPS
    # Unrest: another spring, pushed by noise (smooth, where filtered noise would tremble).
    own, damping = 8.0, 0.7
    noise = stats.sway * (0.4 + 0.6 * state.voice) * np.sqrt(4.0 * damping * own**3 / FPS)
    drift = (-(own**2) * state.sway - 2.0 * damping * own * state.sway_speed) / FPS
    sway_speed = state.sway_speed + drift + noise * (factor @ normal[7:13])
    return replace(
        state,
        goal=goal.astype(np.float32),
        stiffness=stiffness,
        speed=speed.astype(np.float32),
        pose=(state.pose + speed / FPS).astype(np.float32),
        sway=(state.sway + sway_speed / FPS).astype(np.float32),
        sway_speed=sway_speed.astype(np.float32),
    )


def _shown_pose(state: LifeState) -> Array:
    pose = state.pose + state.sway
    chest = 0.5 - 0.5 * float(np.cos(2 * np.pi * state.breath))
    pose[1] += state.nod + 0.004 * chest
    pose[4] += 0.3 * state.nod - 0.006 * chest
    # A head neither turns nor tips without end.
    limits = np.array([0.45, 0.3, 0.25, 0.5, 0.4, 0.15], np.float32)
    return np.asarray(limits * np.tanh(pose / limits), np.float32)


def _look(
    stats: LifeStats, state: LifeState, normal: Array, uniform: NDArray[np.float64]
) -> tuple[LifeState, float]:
    """Fixations with quick saccades; mostly on the viewer. Also returns the saccade's size."""
    until, glance, size = state.until_saccade - 1.0 / FPS, state.glance, 0.0
    if until <= 0.0:
        until = float(np.clip(0.9 * np.exp(0.6 * normal[0]), 0.25, 4.0))
        away = uniform[0] < 0.35
        spread = np.asarray(stats.saccade) * (1.0 if away else 0.2)
        glance = (spread * normal[1:3]).astype(np.float32)
        size = float(np.hypot(*(glance - state.glance)))
        until *= 0.6 if away else 1.0
    gaze = state.gaze + 0.8 * (glance - state.gaze)
    return replace(state, until_saccade=until, glance=glance, gaze=gaze.astype(np.float32)), size


def _shown_gaze(state: LifeState) -> Array:
    """Eyes in the head: they hold the viewer, so they turn back most of the head's turn."""
    pose = _shown_pose(state)
    gaze = state.gaze - 0.8 * pose[:2]
    return np.asarray(_EYE_LIMIT * np.tanh(gaze / _EYE_LIMIT), np.float32)


def _blink(
    stats: LifeStats,
    state: LifeState,
    saccade: float,
    begins: bool,
    normal: float,
    uniform: NDArray[np.float64],
) -> LifeState:
    """Lognormal intervals; phrase starts and large gaze shifts bring a waiting blink forward."""
    until, age = state.until_blink - 1.0 / FPS, state.blink_age + 1.0 / FPS
    pause = state.rest == 4
    called = (saccade > 0.09 and uniform[0] < 0.5) or ((begins or pause) and uniform[0] < 0.3)
    if age > 0.6 and (until <= 0.0 or called):
        mean = 60.0 / stats.blinks_a_minute * 1.3  # the called ones come on top
        median = mean * float(np.exp(-0.5 * stats.blink_spread**2))
        until = median * float(np.exp(stats.blink_spread * normal))
        age = float(uniform[1]) / FPS
    return replace(state, until_blink=until, blink_age=min(age, 9.0))


def _breathe(state: LifeState, normal: float) -> LifeState:
    """Phase of the breath; 14 a minute, a little uneven."""
    return replace(state, breath=(state.breath + (14.0 / 60.0) * (1 + 0.3 * normal) / FPS) % 1.0)
