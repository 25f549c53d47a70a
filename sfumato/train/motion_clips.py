"""What the motion generator learns from: tracked clips as speeds, own motion of the face, events.

Every clip is centred on its own rest, so gaze direction, head distance and mood are no part of what
is learned: they are added to what is made, exactly as asked (:mod:`sfumato.controls`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import median_filter
from scipy.signal import lfilter, savgol_filter

from sfumato.corpus import ClipInfo
from sfumato.generator import FACE, FOLLOW, NEVER, VOR
from sfumato.geometry.topology import MIRROR
from sfumato.latent import N_EXPRESSION, FaceBasis
from sfumato.models.motion import N_FACE, N_KINDS, N_STYLE
from sfumato.models.speech import SpeechEncoder
from sfumato.speech import FLOOR_DB, HOPS_PER_FRAME, N_MELS, normalise
from sfumato.timebase import FPS
from sfumato.train.augment import disturb
from sfumato.train.blinks import blink_limit, find_blinks
from sfumato.train.motion_data import levels_of
from sfumato.train.motion_targets import LIDS, Measures, earlier, person_gains, targets
from sfumato.train.speech_clips import usable

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]

KINDS = ("real", "generated", "drawn")
KIND_WEIGHT = {"real": 1.0, "generated": 0.5, "drawn": 0.25}
VERSIONS = 4  # of every sound: the first clean, the others disturbed
FEWEST = 20  # frames
NOTHING = np.zeros((0, 0, 0), np.float16)
SACCADE = np.radians(3.0)  # smaller shifts of the tracked gaze are noise


@dataclass(frozen=True)
class Take:
    """One clip. T frames, all arrays float32.

    Attributes:
        pose: (T, 6), around its median; speed: (T, 6), difference to the frame before.
        face: (T, N_FACE) expression without lids; zeros where ``synced`` is False.
        glance: (T, 2) where the eyes look, turned back by what they do against the head.
        landing: (T, 2) where they look in the next quarter of a second.
        blinks, saccades: (T,) whether one begins.
        good: (T,) whether tracked; speed needs the frame before, too.
        synced: whether face and sound belong together.
        heard: (VERSIONS, T, n + N_FACE + 2) what is heard, as the network takes it; silence where
            ``synced`` is False.
        style: (N_KINDS + N_STYLE,).
        person, weight: whose, and how often it is drawn.
    """

    pose: Array
    speed: Array
    face: Array
    glance: Array
    landing: Array
    blinks: Mask
    saccades: Mask
    good: Mask
    synced: bool
    heard: NDArray[np.float16]
    style: Array
    person: str
    weight: float = 1.0

    def __len__(self) -> int:
        return len(self.pose)


def load_takes(
    infos: Sequence[ClipInfo], cache: Path, basis: FaceBasis, encoder: SpeechEncoder, seed: int
) -> list[Take]:
    """All takes of the training split with weights; silent clips among them."""
    measures, rng = Measures.of(basis), np.random.default_rng(seed)
    known = {i.name: i for i in infos if i.teaches and i.trusted}
    faces = {
        name: target
        for name, info in known.items()
        if usable(info) and (target := targets(info, cache, measures)) is not None
    }
    gains = person_gains({n: (known[n].person, t) for n, t in faces.items()})
    limit, takes = blink_limit(basis), []
    quiet = listen(encoder, np.full((8, N_MELS), FLOOR_DB, np.float16), rng)[:1, -1:]
    for number, (name, info) in enumerate(known.items()):
        face = faces.get(name)
        motion = None if face is None else face.motion * gains[info.person]
        take = _take(info, cache, motion, limit)
        if take is None:
            continue
        if motion is not None:
            heard = listen(encoder, np.load(cache / "mel" / f"{name}.npy"), rng)
            frames = min(len(take), heard.shape[1])
            take = replace(cut(take, slice(0, frames)), heard=heard[:, :frames])
        else:
            shape = (VERSIONS, len(take), quiet.shape[2])
            take = replace(take, heard=np.broadcast_to(quiet, shape))
        if len(take) >= FEWEST:
            takes.append(take)
        if number % 200 == 0:
            print(f"Clips: {number} of {len(known)}", flush=True)
    return _weighted(takes)


def _take(info: ClipInfo, cache: Path, motion: Array | None, limit: float) -> Take | None:
    path = cache / "face" / f"{info.name}.npz"
    if not path.exists():
        return None
    stored = np.load(path)
    if len(stored["good"]) < FEWEST or stored["good"].mean() < 0.9:
        return None
    lids = stored["expression"][:, list(LIDS)]
    rows = np.concatenate([stored["pose"], stored["gaze"], lids], axis=1).astype(np.float32)
    rows, good = earlier(rows, stored["good"], info.lag if info.synced else 0.0)
    pose = savgol_filter(rows[:, :6], 7, 2, axis=0).astype(np.float32)
    pose -= np.median(pose[good], axis=0)
    good &= np.abs(pose[:, :3]).max(axis=1) < 0.8
    speed = np.diff(pose, axis=0, prepend=pose[:1])
    gaze = median_filter(rows[:, 6:8], (5, 1))
    glance = gaze + VOR * pose[:, :2]
    glance -= np.median(glance[good], axis=0)
    landing = np.stack([np.median(glance[t + 1 : t + 7], axis=0) for t in range(len(glance) - 1)])
    landing = np.concatenate([landing, glance[-1:]])
    blinks = np.zeros(len(pose), bool)
    blinks[[max(middle - 2, 0) for middle in find_blinks(rows[:, 8:], limit)]] = True
    face = np.zeros((len(pose), N_FACE), np.float32)
    if motion is not None:
        face[: len(motion)] = motion[: len(face), FACE]
    return Take(
        pose, speed.astype(np.float32), face, _short(glance), _short(landing), blinks,
        _jumps(glance), good, motion is not None, NOTHING, _style(info, speed[good]), info.person,
    )  # fmt: skip


def _short(values: NDArray[np.floating]) -> Array:
    return np.clip(values, -0.5, 0.5).astype(np.float32)


def _jumps(glance: NDArray[np.floating]) -> Mask:
    """Frames at which a saccade begins: the largest jump over two frames in its neighbourhood."""
    jump = np.zeros(len(glance))
    jump[1:-1] = np.linalg.norm(glance[2:] - glance[:-2], axis=1)
    peak = jump == np.maximum.reduce([np.roll(jump, k) for k in range(-3, 4)])
    found: Mask = peak & (jump > SACCADE)
    return found


def _style(info: ClipInfo, speed: Array) -> Array:
    """Kind of the clip, and how lively its head is against the usual (a natural logarithm)."""
    style = np.zeros(N_KINDS + N_STYLE, np.float32)
    style[KINDS.index(info.kind)] = 1.0
    usual = np.radians(0.35)
    turns = float(np.linalg.norm(speed[:, :3], axis=1).mean())
    style[N_KINDS] = np.clip(np.log(max(turns, 1e-5) / usual), -1.5, 1.5)
    return style


def listen(
    encoder: SpeechEncoder, mel: NDArray[np.float16], rng: np.random.Generator
) -> NDArray[np.float16]:
    """What the encoder hears in a recording and in disturbed versions of it.

    Returns:
        (VERSIONS, T, n + N_FACE + 2): hidden features, expected face, voice, 1.
    """
    clean = np.asarray(mel, np.float32)
    versions = [clean] + [disturb(clean, None, rng) for _ in range(VERSIONS - 1)]
    dims = encoder.dims
    before = dims.past * HOPS_PER_FRAME
    after = dims.look_ahead * HOPS_PER_FRAME
    silence = [np.full((n, N_MELS), FLOOR_DB, np.float32) for n in (before, after)]
    rows = [np.concatenate([silence[0], v, silence[1]]) for v in versions]
    features = np.stack([normalise(row, levels_of(row)) for row in rows])
    with torch.no_grad():
        hidden, motion, voice = encoder(torch.from_numpy(features))
    parts = [hidden, motion[..., FACE], voice[..., None], torch.ones_like(voice)[..., None]]
    return np.asarray(torch.cat(parts, dim=-1).numpy(), np.float16)


def cut(take: Take, part: slice) -> Take:
    """Some frames of a take."""
    names = ("pose", "speed", "face", "glance", "landing", "blinks", "saccades", "good")
    cuts = {name: getattr(take, name)[part] for name in names}
    return replace(take, heard=take.heard[:, part], **cuts)


def mirrored_face(basis: FaceBasis) -> Array:
    """(N_FACE, N_FACE): ``face @ matrix`` is the face seen in a mirror."""
    rows = basis.expression.reshape(N_EXPRESSION, -1)
    flipped = (basis.expression[:, MIRROR] * (-1.0, 1.0, 1.0)).reshape(N_EXPRESSION, -1)
    matrix = flipped @ np.linalg.pinv(rows)
    return np.asarray(matrix[FACE][:, FACE], np.float32)


def own_motion(take: Take, version: int) -> tuple[Array, Array]:
    """What the face does beyond what the sound lets expect, (T, N_FACE), and its running mean."""
    own = np.zeros_like(take.face)
    if take.synced:
        first = take.heard.shape[2] - N_FACE - 2
        expected = take.heard[version, :, first : first + N_FACE].astype(np.float32)
        own = np.where(take.good[:, None], take.face - expected, 0.0).astype(np.float32)
    mean = lfilter([FOLLOW], [1.0, FOLLOW - 1.0], own, axis=0).astype(np.float32)
    return own, mean


def ages(events: Mask) -> Array:
    """(T,) feature of how long before frame t the last event was."""
    frames = np.arange(len(events))
    last = np.maximum.accumulate(np.where(events, frames, -1))
    last = np.concatenate([[-1], last[:-1]])
    seconds = np.where(last < 0, NEVER + frames / FPS, (frames - last) / FPS)
    return np.log(np.minimum(seconds, 2 * NEVER) + 0.1).astype(np.float32)


def _weighted(takes: list[Take]) -> list[Take]:
    """Weights: square root of a person's length, shared over the takes; kinds weighed."""
    length: dict[str, int] = defaultdict(int)
    for take in takes:
        length[take.person] += len(take)
    return [
        replace(
            take,
            weight=len(take) / length[take.person] ** 0.5
            * KIND_WEIGHT[KINDS[int(take.style[:N_KINDS].argmax())]],
        )
        for take in takes
    ]  # fmt: skip
