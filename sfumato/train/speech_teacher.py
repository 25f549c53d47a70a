"""Features of a speech teacher for every sound of the motion cache.

The teacher is the encoder of Moonshine tiny (MIT, English) as it lies inside the package
``moonshine-voice==0.0.49``. Training runs without it too, but then learns from faces alone, and
new voices move the lips less well.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from sfumato.media.files import replacing
from sfumato.timebase import SAMPLE_RATE, SAMPLES_PER_FRAME, frames_for
from sfumato.train.motion_cache import read_sound

Array = NDArray[np.float32]

STRIDE, CENTRE = 384, 447  # samples between the encoder's frames, and where the first one sits
PIECE, MARGIN = 12 * SAMPLE_RATE // STRIDE * STRIDE, SAMPLE_RATE
LEAD = 4800  # silence before and after, so that the first frame is not at the edge


def encode(session: onnxruntime.InferenceSession, samples: Array) -> Array:
    """(frames, 288) features at the middle of each video frame; long sounds in pieces."""
    frames = frames_for(len(samples))
    padded = np.pad(samples, (LEAD, LEAD + frames * SAMPLES_PER_FRAME - len(samples) + 640))
    where, values = [], []
    for start in range(0, len(padded), PIECE):
        piece = padded[start : start + PIECE + 2 * MARGIN]
        last = start + PIECE + 2 * MARGIN >= len(padded)
        feed = {"input_values": piece[None], "attention_mask": np.ones((1, len(piece)), np.int64)}
        made = session.run(None, feed)[0][0]
        at = start + STRIDE * np.arange(len(made)) + CENTRE
        keep = (at >= start + (MARGIN if start else 0)) & (last | (at < start + PIECE + MARGIN))
        where.append(at[keep])
        values.append(made[keep])
        if last:
            break
    at, made = np.concatenate(where), np.concatenate(values)
    middles = LEAD + SAMPLES_PER_FRAME * np.arange(frames) + SAMPLES_PER_FRAME // 2
    left = np.clip(np.searchsorted(at, middles) - 1, 0, len(at) - 2)
    share = np.clip((middles - at[left]) / (at[left + 1] - at[left]), 0.0, 1.0)[:, None]
    return np.asarray(made[left] * (1 - share) + made[left + 1] * share, np.float32)


def find_teacher() -> Path | None:
    """The encoder inside the installed package, or None."""
    found = importlib.util.find_spec("moonshine_voice")
    if found is None or found.origin is None:
        return None
    path = Path(found.origin).parent / "assets" / "tiny-en" / "encoder_model.ort"
    return path if path.exists() else None


def label_speech(sounds: Iterable[tuple[str, Path]], cache: Path, encoder: Path) -> int:
    """Writes ``cache/moon/<name>.npy``, (frames, 288) float16 at 25 frames a second.

    Args:
        sounds: name in the cache, and file; those without a spectrogram there are left out.
        cache: filled by :func:`sfumato.train.motion_cache.make_cache`. What exists is kept.
        encoder: from :func:`find_teacher`.

    Returns:
        How many were written.
    """
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(encoder), settings)
    written = 0
    for name, path in sounds:
        target = cache / "moon" / f"{name}.npy"
        if target.exists() or not (cache / "mel" / f"{name}.npy").exists():
            continue
        samples = read_sound(path)
        if samples is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
            with replacing(target) as partial:
                np.save(partial, encode(session, samples).astype(np.float16))
            written += 1
    return written
