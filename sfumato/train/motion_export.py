"""Writes the trained motion generator as ONNX, tuned so that what it makes moves as people do."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sfumato.engine import Network
from sfumato.generator import FACE, FORMAT_VERSION, Generator, Scales
from sfumato.geometry import topology as topo
from sfumato.latent import FaceBasis
from sfumato.models.motion import (
    N_DRAWN,
    N_EVENTS,
    N_FACE,
    N_KINDS,
    N_PAST,
    N_POSE,
    N_STYLE,
    MotionDims,
    MotionNet,
)
from sfumato.timebase import FPS
from sfumato.train.blinks import shut_lids
from sfumato.train.motion_batch import Spread
from sfumato.train.motion_clips import Take
from sfumato.train.motion_targets import HELD, OPEN, WIDE, Measures
from sfumato.train.onnx_file import write
from sfumato.train.speech_losses import WIDTH

Array = NDArray[np.float32]

STEPS = 6
# VASA-1 has 0.5 for the audio; heads, whose sway the sound tells least, need more to move as far as
# people's.
GUIDANCE, HEAD_GUIDANCE = 0.5, 1.0
CLOSED = 0.015  # opening in face units at which lips look closed
CLOSING = 0.8  # of the time that people's lips are closed: more closes wide open ones, too
# The width moves farther than that of the people set apart, whom the encoder has heard: it hears
# strangers less surely, and a renderer and a tracker take their share. The most that it may grow.
WIDER, MOST_WIDENED = 1.45, 2.2
MOST_GAIN = 2.5  # on any coefficient of the expected face
LIPS = 0.35  # share of a coefficient's motion in the lips beyond which it follows the sound alone
# Blinks a minute that are people's, in short clips; a stream that runs on blinks a fifth more.
RATES = (15.0, 28.0)
REHEARSALS = 8  # two minutes of sound each


class Deployed(nn.Module):
    """One frame: transformer, events and all steps of the flow.

    Everything is computed with the sound and without it, for :meth:`MotionNet.draw`.
    """

    guidance: Tensor
    style: Tensor

    def __init__(self, net: MotionNet, steps: int = STEPS) -> None:
        super().__init__()
        self.net, self.steps = net, steps
        guidance = torch.full((N_DRAWN,), GUIDANCE)
        guidance[:N_POSE] = HEAD_GUIDANCE
        self.register_buffer("guidance", guidance)
        style = torch.zeros(1, N_KINDS + N_STYLE)
        style[0, 0] = 1.0
        self.register_buffer("style", style)

    def forward(
        self,
        past: Tensor,
        heard: Tensor,
        noise: Tensor,
        chance: Tensor,
        bias: Tensor,
        state: Tensor,
        frames: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Drawn motion (1, N_DRAWN), whether events begin (1, 2) as 0 or 1, next state.

        An event begins where its probability, with ``bias`` added to its logit, is above
        ``chance`` (1, 2).
        """
        heard = torch.cat([heard, torch.ones_like(heard[:, :1])], dim=1)
        past, style = past.repeat(2, 1), self.style.repeat(2, 1)
        heard = torch.cat([heard, torch.zeros_like(heard)])
        given, state = self.net.step(past, heard, style, state, frames)
        events = (torch.sigmoid(self.net.events(given[:1]) + bias) > chance).float()
        drawn = self.net.draw(noise, self.net.for_flow(given, events), self.steps, self.guidance)
        return drawn, events, state


def export_motion(net: MotionNet, scales: Scales, path: Path) -> None:
    """Writes ``path``; complete or absent.

    Args:
        net, scales: trained and tuned.
        path: of the ONNX file.
    """
    shape = (2, *net.dims.state_shape)
    inputs = {
        "past": torch.zeros(1, N_PAST),
        "heard": torch.zeros(1, net.dims.n_heard + N_FACE + 1),
        "noise": torch.zeros(1, N_DRAWN),
        "chance": torch.zeros(1, N_EVENTS),
        "bias": torch.zeros(1, N_EVENTS),
        "state": torch.zeros(shape),
        "frames": torch.zeros(1, dtype=torch.int64),
    }
    facts = {
        "format_version": str(FORMAT_VERSION),
        "state_shape": json.dumps(shape),
        "scales": scales.to_json(),
    }
    write(Deployed(net), inputs, ["drawn", "events", "next_state"], facts, path)


def load_net(path: Path) -> tuple[MotionNet, Spread]:
    """Network and usual sizes of a checkpoint, ready to run."""
    state = torch.load(path, weights_only=True, map_location="cpu")
    net = MotionNet(MotionDims(**state["dims"]))
    net.load_state_dict(state["net"])
    return net.eval(), Spread(**{k: v.numpy() for k, v in state["spread"].items()})


def finish(
    net: MotionNet,
    spread: Spread,
    takes: Sequence[Take],
    check: Sequence[Take],
    lids_down: NDArray[np.floating],
    basis: FaceBasis,
    path: Path,
) -> Scales:
    """Tunes amplitude and rates to people, and writes ``path``.

    Args:
        net, spread: trained.
        takes: of everybody, for the rates of blinks and saccades; check: of people that it never
            saw, for how far faces move.
        lids_down: see :func:`sfumato.train.blinks.lids_follow`.
        basis: of the expressions.
        path: of the ONNX file.
    """
    scales = _scales(spread, check, lids_down, basis)
    wanted = real_rates(takes)
    for number, sounds in enumerate(_rehearsals(takes), 1):
        export_motion(net, scales, path)
        shift = np.log(wanted / np.maximum(made_rates(Generator(Network(path)), sounds), 1.0))
        # Chance has its share in what one rehearsal shows: steps shrink (Robbins and Monro 1951).
        events = np.clip(np.asarray(scales.events) + 2 / (number + 1) * shift, -2.0, 2.0)
        scales = replace(scales, events=tuple(map(float, events)))
    export_motion(net, scales, path)
    return scales


def _rehearsals(takes: Sequence[Take]) -> list[list[Take]]:
    """Real takes with sound to try the rates on, other ones each time where there are many."""
    sounds = [t for t in takes if t.synced and t.style[0] > 0]
    order = np.random.default_rng(7).permutation(len(sounds))
    parts = REHEARSALS if len(sounds) >= REHEARSALS else 1
    return [[sounds[i] for i in order[k % parts :: parts]] for k in range(REHEARSALS)]


def _scales(
    spread: Spread, check: Sequence[Take], lids_down: NDArray[np.floating], basis: FaceBasis
) -> Scales:
    measures = Measures.of(basis)
    stretch = calibrate(check, measures)
    return Scales(
        *(tuple(map(float, a)) for a in (spread.pose, spread.speed, spread.own, spread.glance)),
        shown=tuple(map(float, own_share(basis))),
        held=tuple(tuple(map(float, row)) for row in measures.lips[FACE, :HELD].T),
        gain=tuple(map(float, stretch.gain)),
        opening=tuple(map(float, measures.opening[FACE])),
        slope=stretch.slope,
        shut=stretch.shut,
        opener=OPEN - FACE.start,
        widening=tuple(map(float, stretch.widening)),
        widener=WIDE - FACE.start,
        events=(0.0, 0.0),
        shut_lids=tuple(map(float, shut_lids(basis))),
        lids_down=tuple(map(float, lids_down)),
    )


def own_share(basis: FaceBasis) -> NDArray[np.floating]:
    """(N_FACE,) how much of the face's own motion is shown: none of what moves mostly the lips."""
    energy = (basis.expression**2).sum(axis=2)
    lips = energy[:, list(topo.OUTER_LIPS + topo.INNER_LIPS)].sum(axis=1)
    share: NDArray[np.floating] = np.clip(1.0 - lips / energy.sum(axis=1) / LIPS, 0.0, 1.0)[FACE]
    return share


@dataclass(frozen=True)
class Stretch:
    """Makes the expected face as lively as people's: see :class:`sfumato.generator.Scales`."""

    gain: Array
    slope: float
    shut: float
    widening: Array


def calibrate(check: Sequence[Take], measures: Measures) -> Stretch:
    """The stretch by which the face expected from sound moves as much as real faces do.

    Not all the way: what the network does not know it should not shout (:func:`_gain`). At the top
    (95 %) lips open as wide as real ones, and their width moves as far as people's: less would
    drown in what else moves the corners of a mouth.
    """
    opening = measures.opening[FACE]
    pairs = [_faces(take) for take in check if take.synced]
    gain = _gain(pairs)
    ours, people = (np.concatenate(rows) for rows in zip(*pairs, strict=True))
    gaps, wanted = (ours * gain) @ opening, people @ opening
    closed = CLOSING * np.clip((wanted < CLOSED).mean(), 0.05, 0.4)
    shut, wide = np.quantile(gaps, [closed, 0.95])
    slope = np.clip(np.quantile(wanted, 0.95) / max(wide - shut, 1e-6), 0.5, 3.0)
    row = _widening([(made * gain, real) for made, real in pairs], measures, float(slope))
    return Stretch(gain, float(slope), float(shut), row)


def _gain(pairs: Sequence[tuple[Array, Array]]) -> Array:
    """(N_FACE,) factors on what is expected, from faces expected and people's, clip by clip.

    With a correlation r and people's spread over ours, ``r * spread`` errs least and moves too
    little; ``spread`` moves as far as people do, where it knows nothing as well. Their geometric
    mean is taken, and nothing of what goes against people. Opening and width lose nothing here:
    they are set right as a whole.
    """
    moves = [[face - face.mean(axis=0) for face in pair] for pair in pairs]
    ours, people = (np.concatenate(rows) for rows in zip(*moves, strict=True))
    spread = people.std(axis=0) / np.maximum(ours.std(axis=0), 1e-6)
    r = np.mean([_correlations(*pair) for pair in moves], axis=0)
    least = np.zeros(N_FACE)
    least[[OPEN - FACE.start, WIDE - FACE.start]] = 1.0
    return np.clip(spread * np.sqrt(np.maximum(r, 0.0)), least, MOST_GAIN).astype(np.float32)


def _correlations(one: Array, two: Array) -> NDArray[np.floating]:
    """Of every column of two arrays (n, m), both around 0."""
    sizes = (one**2).sum(axis=0) * (two**2).sum(axis=0)
    r: NDArray[np.floating] = (one * two).sum(axis=0) / np.sqrt(np.maximum(sizes, 1e-12))
    return r


def _faces(take: Take) -> tuple[Array, Array]:
    """Faces (n, N_FACE) expected from sound, and the person's."""
    first = take.heard.shape[2] - N_FACE - 2
    made = take.heard[0, take.good, first : first + N_FACE].astype(np.float32)
    return made, take.face[take.good]


def _widening(pairs: Sequence[tuple[Array, Array]], measures: Measures, slope: float) -> Array:
    """See :class:`sfumato.generator.Scales`.

    Faces expected from sound widen with the opening of the lips more than people's do: a loud
    voice says that lips open and, for a mean of all people, that they widen. Each clip is taken
    around its mean; ``slope`` is that of the opening, which the jaw's coefficient will take.
    """
    opening, width = measures.opening[FACE], measures.lips[FACE][:, WIDTH]
    jaw = OPEN - FACE.start
    opened = slope * opening
    as_made = width + (slope - 1.0) * opening * width[jaw] / opening[jaw]
    moves = [[face - face.mean(axis=0) for face in pair] for pair in pairs]
    ours, people = (np.concatenate(rows) for rows in zip(*moves, strict=True))
    wider = _follow(ours @ as_made, ours @ opened)
    wanted = _follow(people @ width, people @ opening)
    freed = as_made - wider * opened
    left = (people @ width).var() - (wanted * (ours @ opened)).var()
    factor = math.sqrt(max(left, 0.0) / max((ours @ freed).var(), 1e-9))
    row = np.clip(WIDER * factor, 1.0, MOST_WIDENED) * freed + wanted * opened
    return np.asarray((row - as_made) / width[WIDE - FACE.start], np.float32)


def _follow(values: Array, others: Array) -> float:
    """How far ``values`` move with ``others``, both around 0."""
    return float(values @ others / max(others @ others, 1e-9))


def real_rates(takes: Sequence[Take]) -> NDArray[np.floating]:
    """Blinks and saccades a minute of real people."""
    real = [t for t in takes if t.style[0] > 0]
    minutes = sum(len(t) for t in real) / FPS / 60
    blinks = sum(int(t.blinks.sum()) for t in real) / minutes
    saccades = sum(int(t.saccades.sum()) for t in real) / minutes
    return np.array([np.clip(blinks, *RATES), saccades])


def made_rates(
    generator: Generator, takes: Sequence[Take], most: int = 3000
) -> NDArray[np.floating]:
    """Blinks and saccades a minute that a generator makes to the sounds of takes.

    Every take is a stream of its own, as its person's blinks were counted. ``most`` frames are
    enough.
    """
    counts, frames = np.zeros(2), 0
    for number, take in enumerate(takes):
        state = generator.start()
        for place, row in enumerate(take.heard[0, :, :-1].astype(np.float32)):
            rng = np.random.default_rng((7, number, place))
            state, _ = generator.draw(state, row, rng)
            frames += 1
            counts += [state.since_blink < 1.5 / FPS, state.since_saccade < 1.5 / FPS]
        if frames >= most:
            break
    rates: NDArray[np.floating] = counts / (max(frames, 1) / FPS / 60)
    return rates
