"""Features of a speech teacher for every sound of the motion cache. Runs alone.

The teacher is the encoder of Moonshine tiny (MIT, English) as it lies inside the package
``moonshine-voice==0.0.49``, which nothing else of the project needs:

    python sfumato/train/speech_teacher.py ENCODER.ort CACHE SOUND_DIR [SOUND_DIR ...]

writes ``CACHE/moon/<name>.npy``, (frames, 288) float16 at 25 frames a second, for every sound
below the folders, under the same names as :func:`sfumato.train.motion_cache.make_cache`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from sfumato.timebase import SAMPLE_RATE, SAMPLES_PER_FRAME, frames_for
from sfumato.train.motion_cache import SOUNDS, read_sound

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


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("encoder", type=Path)
    parser.add_argument("cache", type=Path)
    parser.add_argument("folders", type=Path, nargs="+")
    options = parser.parse_args()
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(options.encoder), settings)
    for folder in options.folders:
        for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in SOUNDS):
            name = path.relative_to(folder).with_suffix("")
            for candidate in (name, folder.name / name):
                mel = options.cache / "mel" / f"{candidate}.npy"
                target = options.cache / "moon" / f"{candidate}.npy"
                if mel.exists() and not target.exists():
                    samples = read_sound(path)
                    if samples is not None:
                        target.parent.mkdir(parents=True, exist_ok=True)
                        np.save(target, encode(session, samples).astype(np.float16))


if __name__ == "__main__":
    main()
