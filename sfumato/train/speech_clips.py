"""Which clips teach the speech encoder, how much each counts, and what is known of them."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sfumato.corpus import ClipInfo
from sfumato.errors import InputError
from sfumato.latent import N_EXPRESSION
from sfumato.media.arrays import save_arrays
from sfumato.models.speech import SpeechDims
from sfumato.train.motion_data import Clip, load_mels, voice_of
from sfumato.train.motion_targets import Measures, Target, person_gains, said_targets

Array = NDArray[np.float32]

# Weight of a clip by its source beyond the square root of its person's minutes.
KIND_WEIGHT = {"real": 1.0, "generated": 0.7, "drawn": 0.35}
WIDE_SOURCES = ("talkvid", "pcavs", "edtalk", "sadtalker", "dfrf", "videoretalking")


def load_clips(
    infos: list[ClipInfo], cache: Path, run: Path, measures: Measures
) -> tuple[list[Clip], list[Clip]]:
    """Training clips and a check set of other people, with weights.

    Raises:
        InputError: No clip with motion.
    """
    known = {info.name: info for info in infos}
    faces = {
        name: target
        for name, info in known.items()
        if usable(info) and (target := said_targets(info, cache, measures)) is not None
    }
    gains = person_gains({n: (known[n].person, t) for n, t in faces.items()})
    teacher = teacher_projection(cache, run, known)
    clips: list[Clip] = []
    for name in load_mels(cache):
        info = known.get(name)
        if info is not None and not usable(info):
            continue
        clips.append(_clip(name, info, faces.get(name), gains, cache, teacher))
    if not any(c.motion is not None for c in clips):
        raise InputError(f"no clip with tracked faces and sound in {cache}: fill the cache first")
    learn, check = split_people(weighted(clips, known), known)
    return learn, check


def usable(info: ClipInfo) -> bool:
    """Whether a clip may teach: training split, own sound, in sync, not a held-out speaker."""
    return info.teaches and info.synced and info.trusted


def _clip(
    name: str,
    info: ClipInfo | None,
    face: Target | None,
    gains: dict[str, float],
    cache: Path,
    teacher: tuple[Array, Array] | None,
) -> Clip:
    mel = np.load(cache / "mel" / f"{name}.npy")
    frames = len(mel) // 4
    if face is not None:
        frames = min(frames, len(face.motion))
    features = None
    path = cache / "moon" / f"{name}.npy"
    if teacher is not None and path.exists():
        mean, basis = teacher
        raw = (np.load(path).astype(np.float32) - mean) @ basis
        frames = min(frames, len(raw))
        features = raw[:frames].astype(np.float16)
    mel = mel[: 4 * frames]
    music = info is not None and info.content in ("song", "rap")
    person = info.person if info else name.split("/")[0]
    return Clip(
        name,
        person,
        mel,
        features,
        None if face is None else _lively(face.motion[:frames], gains[person]),
        None if face is None else face.good[:frames],
        None if music else voice_of(mel.astype(np.float32)),
    )


def _lively(motion: Array, gain: float) -> Array:
    """The expression by a factor; what is seen between the lips has everybody's size already."""
    return np.concatenate([motion[:, :N_EXPRESSION] * gain, motion[:, N_EXPRESSION:]], axis=1)


def weighted(clips: list[Clip], known: dict[str, ClipInfo]) -> list[Clip]:
    """Weights: square root of a person's length, shared over their clips; kinds weighed."""
    length: dict[str, int] = defaultdict(int)
    for clip in clips:
        length[clip.person] += len(clip)
    out = []
    for clip in clips:
        weight = len(clip) / math.sqrt(length[clip.person])
        info = known.get(clip.name)
        if info is not None:
            weight *= KIND_WEIGHT[info.kind] * (2.0 if info.source in WIDE_SOURCES else 1.0)
        out.append(replace(clip, weight=weight))
    # Two fifths of the time speech without a face, for the teacher alone.
    face = sum(c.weight for c in out if c.motion is not None)
    bare = sum(c.weight for c in out if c.motion is None)
    share = 0.67 * face / bare if bare else 1.0
    return [c if c.motion is not None else replace(c, weight=c.weight * share) for c in out]


def split_people(clips: list[Clip], known: dict[str, ClipInfo]) -> tuple[list[Clip], list[Clip]]:
    """Every twelfth person with a real face is for checking; all clips learn if people are few."""
    faces = (c for c in clips if c.motion is not None)
    people = sorted({c.person for c in faces if known[c.name].kind == "real"})
    apart = set(people[5::12]) if len(people) >= 24 else set()
    check = [c for c in clips if c.person in apart and c.motion is not None] or clips
    return [c for c in clips if c.person not in apart], check


def teacher_projection(
    cache: Path, run: Path, known: dict[str, ClipInfo]
) -> tuple[Array, Array] | None:
    """Mean and projection of the teacher's features to ``n_teacher``, kept in ``run``."""
    kept = run / "teacher.npz"
    if kept.exists():
        stored = np.load(kept)
        return stored["mean"], stored["basis"]
    paths = sorted((cache / "moon").rglob("*.npy"))
    if not paths:
        return None
    size = SpeechDims().n_teacher
    sample = np.concatenate([np.load(p)[::9] for p in paths]).astype(np.float32)
    mean = sample.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov((sample - mean).T))
    order = np.argsort(values)[::-1][:size]
    # Half whitened: the small directions count, but less than the large ones.
    basis = (vectors[:, order] / values[order] ** 0.25).astype(np.float32)
    basis /= ((sample - mean) @ basis).std()
    save_arrays(kept, {"mean": mean, "basis": basis})
    return mean, basis
