"""One frame of motion after the other: the flow-matching transformer behind a plain state.

What the network draws is the speed of the head, the face's own motion beyond the one that the sound
lets expect, and where the eyes look next; and it says how likely a blink or a saccade begins. This
module turns that into pose, expression and gaze, and feeds it back as the next frame's past.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.engine import Network
from sfumato.errors import InputError
from sfumato.life import lid_closure
from sfumato.motionfile import N_EXPRESSION
from sfumato.timebase import FPS

Array = NDArray[np.float32]

FORMAT_VERSION = 5
FACE = slice(2, N_EXPRESSION)  # the expression without the lids
FOLLOW = 0.1  # share by which the face's running mean follows in a frame
VOR = 0.8  # share of the head's turn that the eyes turn back (vestibulo-ocular reflex)
NEVER = 3.0  # seconds since the last event, before the first
_REFRACTORY = (0.4, 0.2)  # seconds after a blink, a saccade, without another
_LEAST_BLINKS = 10.0 / 60 / FPS  # in a frame, whatever is heard: eyes dry in silence, too
_SACCADE_SHARE = 0.8  # of the way in one frame
# Radians and face units, log scale: beyond, the neck pulls back.
_REACH = np.array([0.45, 0.28, 0.22, 0.5, 0.4, 0.15], np.float32)
_PULL = 0.15  # share of what is beyond, a frame
_GLANCE = 0.35  # radians
_KNEE, _PRESS = 0.01, 0.008  # face units: softness of the knee; how far closed lips press
_MOOD = 1.5  # a running mean moves less than what it follows; so much more is as far as people's
_MOST_MOOD = 0.6  # of the usual size of a face's own motion: its running mean hardly goes beyond


def log_age(seconds: float) -> float:
    """Feature of the time since an event."""
    return float(np.log(min(seconds, 2 * NEVER) + 0.1))


@dataclass(frozen=True)
class Scales:
    """Numbers that travel with the weights.

    Attributes:
        pose, speed: (6,) usual size of pose and of its change in a frame.
        own: (38,) of the face's own motion; glance: (2,) of the eyes'.
        shown: (38,) share of the face's own motion that is shown at once; of the rest, what moves
            mostly the lips, only the running mean is: a mood, not a syllable.
        held: (n, 38) rows that give the openings and the width of the lips, which no mood changes:
            they follow the sound alone.
        gain: (38,) factor on the expected face; opening: (38,) row that gives the lips' opening in
            face units; slope, shut: the opening becomes ``slope * (opening - shut)`` above
            ``shut``, closed below, with a soft knee between; opener: the coefficient that takes the
            change.
        widening: (38,) row; what it gives is added to the coefficient ``widener``, so that the
            width of the lips moves as far as people's, and with their opening as people's.
        events: (2,) added to the logits of blink and saccade, so that people's rates come out.
        shut_lids: (40,) expression of closed lids; lids_down: (40,) of one radian of gaze downward.
    """

    pose: tuple[float, ...]
    speed: tuple[float, ...]
    own: tuple[float, ...]
    glance: tuple[float, ...]
    shown: tuple[float, ...]
    held: tuple[tuple[float, ...], ...]
    gain: tuple[float, ...]
    opening: tuple[float, ...]
    slope: float
    shut: float
    opener: int
    widening: tuple[float, ...]
    widener: int
    events: tuple[float, ...]
    shut_lids: tuple[float, ...]
    lids_down: tuple[float, ...]

    def to_json(self) -> str:
        """As stored in the weights' file."""
        return json.dumps({k: _short(v) for k, v in asdict(self).items()})

    @staticmethod
    def from_json(text: str) -> Scales:
        """The reverse of :meth:`to_json`."""
        stored = json.loads(text).items()
        numbers: dict[str, Any] = {k: _tuples(v) for k, v in stored}
        return Scales(**numbers)


@dataclass(frozen=True)
class GeneratorState:
    """All that is known of the frames so far; its size is fixed."""

    attention: Array
    frames: int = 0
    pose: Array = field(default_factory=lambda: np.zeros(6, np.float32))
    speed: Array = field(default_factory=lambda: np.zeros((2, 6), np.float32))
    own: Array = field(default_factory=lambda: np.zeros(N_EXPRESSION - 2, np.float32))
    mean: Array = field(default_factory=lambda: np.zeros(N_EXPRESSION - 2, np.float32))
    fixed: Array = field(default_factory=lambda: np.zeros(2, np.float32))
    glance: Array = field(default_factory=lambda: np.zeros(2, np.float32))
    since_blink: float = NEVER
    since_saccade: float = NEVER


@dataclass(frozen=True)
class Drawn:
    """One frame: pose (6,), face (38,) expression without lids, gaze (2,), lids shut 0 to 1."""

    pose: Array
    face: Array
    gaze: Array
    lids: float


class Generator:
    """The network and its numbers. Holds no state: share one between streams.

    Attributes:
        network: as :mod:`sfumato.train.motion_export` writes it.
        scales: numbers that travel with it.
        shut_lids: (40,) expression of closed lids; lids_down: (40,) of a radian of gaze downward.
    """

    def __init__(self, network: Network) -> None:
        facts = network.metadata
        if facts.get("format_version") != str(FORMAT_VERSION):
            raise InputError("the motion network is of another version: train or install it anew")
        self.network = network
        self.scales = Scales.from_json(facts["scales"])
        self._shape = tuple(json.loads(facts["state_shape"]))
        as_array = {k: np.asarray(v, np.float32) for k, v in asdict(self.scales).items()}
        self._scale = as_array
        self.shut_lids, self.lids_down = as_array["shut_lids"], as_array["lids_down"]
        self._mood = _mood(as_array["shown"], as_array["held"])

    @staticmethod
    @lru_cache(maxsize=2)
    def load(path: Path | None = None) -> Generator:
        """The shipped network, or one from an ONNX file.

        Raises:
            InputError: Not a motion network of this version.
        """
        return Generator(Network(path or "motion"))

    def start(self) -> GeneratorState:
        """Before the first frame: at rest."""
        return GeneratorState(np.zeros(self._shape, np.float32))

    def draw(
        self, state: GeneratorState, heard: Array, rng: np.random.Generator
    ) -> tuple[GeneratorState, Drawn]:
        """The next frame.

        Args:
            state: of the frame before.
            heard: (n,) what the speech encoder says: hidden features, expected face, voice.
            rng: of this frame.
        """
        scale = self._scale
        noise = rng.standard_normal(6 + len(state.own) + 2).astype(np.float32)
        since = np.array([state.since_blink, state.since_saccade])
        # Above any probability where it is too early for another event.
        chance = np.where(since > _REFRACTORY, rng.random(2), 2.0).astype(np.float32)
        drawn, events, attention = self.network(
            past_of(state, scale)[None],
            heard[None],
            noise[None],
            chance[None],
            scale["events"][None],
            state.attention,
            np.array([min(state.frames, 10**6)], np.int64),
        )
        blinks, jumps = events[0] > 0.5
        blinks |= chance[0] < _LEAST_BLINKS
        speed = _pulled(state.pose, drawn[0, :6] * scale["speed"])
        own = drawn[0, 6:-2] * scale["own"]
        fixed = (
            np.clip(drawn[0, -2:] * scale["glance"], -_GLANCE, _GLANCE) if jumps else state.fixed
        )
        now = GeneratorState(
            attention=attention,
            frames=state.frames + 1,
            pose=state.pose + speed,
            speed=np.stack([speed, state.speed[0]]),
            own=own,
            mean=state.mean + FOLLOW * (own - state.mean),
            fixed=fixed,
            glance=state.glance + _SACCADE_SHARE * (fixed - state.glance),
            since_blink=(0.0 if blinks else state.since_blink) + 1.0 / FPS,
            since_saccade=(0.0 if jumps else state.since_saccade) + 1.0 / FPS,
        )
        gaze = (now.glance - VOR * now.pose[:2]).astype(np.float32)
        face = self.face(heard, own, now.mean)
        return now, Drawn(now.pose, face, gaze, lid_closure(now.since_blink))

    def face(self, heard: Array, own: Array, mean: Array) -> Array:
        """Expression without lids (38,): what is heard lets expect, and the face's own motion.

        Args:
            heard: see :meth:`draw`.
            own, mean: (38,) the face's own motion and its running mean.
        """
        scales, scale = self.scales, self._scale
        first = len(heard) - len(own) - 1
        face: Array = heard[first:-1] * scale["gain"] + own * scale["shown"]
        face[scales.widener] += face @ scale["widening"]
        # Lips open as far as people's, and close.
        now = float(face @ scale["opening"])
        soft = _KNEE * float(np.logaddexp(0.0, (now - scales.shut) / _KNEE))
        change = scales.slope * soft - _PRESS - now
        face[scales.opener] += change / scale["opening"][scales.opener]
        # In long silence, of which there are few examples, it would grow to grimaces.
        most = _MOST_MOOD * scale["own"]
        face += self._mood @ (most * np.tanh(mean / most))
        return face


def past_of(state: GeneratorState, scale: dict[str, Array]) -> Array:
    """(N_PAST,) what the network is told of the frames before."""
    ages = np.array([log_age(state.since_blink), log_age(state.since_saccade)], np.float32)
    return np.concatenate(
        [
            state.pose / scale["pose"],
            state.speed[0] / scale["speed"],
            state.speed[1] / scale["speed"],
            state.own / scale["own"],
            state.mean / scale["own"],
            state.glance / scale["glance"],
            ages,
        ]
    ).astype(np.float32)


def _mood(shown: Array, held: Array) -> Array:
    """(38, 38): of the running mean, what :attr:`Scales.shown` leaves out and nobody can mishear.

    Where lips smile, purse or stand aslant for seconds says nothing of a syllable; people's do so
    twice as far as the sound tells.
    """
    free = np.eye(len(shown)) - np.linalg.pinv(held.astype(float)) @ held
    return np.asarray(_MOOD * free * (1.0 - shown), np.float32)


def _pulled(pose: Array, speed: Array) -> Array:
    """The head's speed (6,): beyond its reach the neck pulls it back."""
    beyond = pose - np.clip(pose, -_REACH, _REACH)
    return np.asarray(speed - _PULL * beyond, np.float32)


def _tuples(value: object) -> object:
    """Lists of any depth as tuples."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _short(value: object) -> object:
    """Numbers with five digits; tuples become lists."""
    if isinstance(value, (tuple, list)):
        return [_short(v) for v in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value
