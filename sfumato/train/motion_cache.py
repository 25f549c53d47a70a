"""Small arrays per clip for the motion training: spectrogram, tracked expression, teacher features.

The cache folder holds ``mel/<name>.npy``, ``face/<name>.npz`` and, where
:mod:`sfumato.train.speech_teacher` ran, ``moon/<name>.npy``. Names are paths below the data folder
without their ending. Making it is resumable: what exists is kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from sfumato.corpus import ClipInfo
from sfumato.geometry.distances import eye_distance, lip_opening, lip_width
from sfumato.latent import FaceBasis
from sfumato.media.arrays import save_arrays
from sfumato.media.files import replacing
from sfumato.speech import HOP, mel_db
from sfumato.timebase import SAMPLE_RATE, SAMPLES_PER_FRAME, frames_for
from sfumato.train.stamp import stamp

Array = NDArray[np.float32]

SOUNDS = {".wav", ".opus", ".flac", ".mp3", ".m4a", ".ogg", ".g722", ".mp4", ".mkv", ".mov"}
FEWEST_FRAMES = 12


def read_sound(path: Path) -> Array | None:
    """Mono 16 kHz samples of a file from time zero, or None without sound."""
    options = {"format": "g722"} if path.suffix == ".g722" else {}
    with av.open(str(path), **options) as container:
        if not container.streams.audio:
            return None
        resampler = av.AudioResampler("flt", "mono", SAMPLE_RATE)
        parts, first = [], None
        for frame in container.decode(container.streams.audio[0]):
            if first is None:
                first = float((frame.pts or 0) * (frame.time_base or 0))
            parts += [f.to_ndarray()[0] for f in resampler.resample(frame)]
        if not parts:
            return None
        parts += [f.to_ndarray()[0] for f in resampler.resample(None)]
    samples = np.concatenate(parts).astype(np.float32)
    early = round((first or 0.0) * SAMPLE_RATE)
    return np.pad(samples, (early, 0)) if early > 0 else samples[-early:]


def cache_mel(samples: Array, target: Path) -> None:
    """Writes the spectrogram of whole frames, (4 T, N_MELS) float16 decibel."""
    frames = frames_for(len(samples))
    padded = np.pad(samples, (400 - HOP, frames * SAMPLES_PER_FRAME - len(samples)))
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as partial:
        np.save(partial, mel_db(padded).astype(np.float16))


def cache_face(tracks: NDArray[np.floating], basis: FaceBasis, target: Path) -> None:
    """Writes pose, expression, gaze and the lips as measured on the tracks themselves."""
    good = np.isfinite(tracks).all(axis=(1, 2))
    if good.sum() < FEWEST_FRAMES:
        return
    person, motion = basis.fit_clip(tracks)
    opening, width = measured_lips(tracks)
    rest = np.array([person.pose.yaw, person.pose.pitch, person.pose.roll], np.float32)
    save_arrays(
        target,
        {
            "pose": motion.pose,
            "expression": motion.expression,
            "gaze": motion.gaze,
            "good": good,
            "opening": opening,
            "width": width,
            "rest": rest,
        },
    )


def measured_lips(tracks: NDArray[np.floating]) -> tuple[Array, Array]:
    """Opening and width of the inner lips over the distance of the outer eye corners, (T,)."""
    seen = tracks[..., :2]
    opening, width = (size(seen) / eye_distance(seen) for size in (lip_opening, lip_width))
    return opening.astype(np.float32), width.astype(np.float32)


def make_cache(
    clips: Iterable[ClipInfo],
    tracks: Path,
    cache: Path,
    basis: FaceBasis,
    speech: Iterable[tuple[str, Path]] = (),
) -> None:
    """Fills the cache for clips with tracks (``<tracks>/<name>.npz``) and for bare speech."""
    stamp(cache / "face", 1, ("basis.npz",))
    for clip in clips:
        mel, face = cache / "mel" / f"{clip.name}.npy", cache / "face" / f"{clip.name}.npz"
        if clip.synced and not mel.exists():
            samples = read_sound(clip.path)
            if samples is not None and len(samples) >= 10 * HOP:
                cache_mel(samples, mel)
        labels = tracks / f"{clip.name}.npz"
        if labels.exists() and not face.exists():
            cache_face(np.load(labels)["landmarks"], basis, face)
    for name, path in speech:
        target = cache / "mel" / f"{name}.npy"
        if not target.exists():
            samples = read_sound(path)
            if samples is not None and len(samples) >= SAMPLE_RATE:
                cache_mel(samples, target)


def bare_speech(folder: Path) -> list[tuple[str, Path]]:
    """Name in the cache and file of every recording below a folder."""
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SOUNDS)
    return [(str(folder.name / p.relative_to(folder).with_suffix("")), p) for p in files]
