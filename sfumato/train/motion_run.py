"""``sfumato train motion`` from clips to weights: cache, teacher, training, calibrated export."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sfumato.corpus import read_index
from sfumato.latent import FaceBasis
from sfumato.train.motion import TrainOptions, finish, train_motion
from sfumato.train.motion_cache import bare_speech, make_cache
from sfumato.train.speech_teacher import find_teacher, label_speech


def make_motion(
    clips: Path,
    tracks: Path,
    runs: Path,
    speech: Iterable[Path] = (),
    minutes: float = 15.0,
    threads: int = 1,
    seed: int = 0,
    cleared: bool = False,
) -> Path:
    """Everything from clips to a network that :class:`sfumato.motion.MotionGenerator` loads.

    Args:
        clips: corpus folder with ``index.tsv`` or plain videos.
        tracks: their labels by teacher.py.
        runs: gets ``cache/motion``, ``motion/last.pt`` and ``motion.onnx``; what is cached is kept.
        speech: folders of recordings without faces.
        minutes: of training.
        threads: of the processor.
        seed: of weights and order.
        cleared: only clips with a cleared licence.

    Returns:
        The path of ``motion.onnx``.

    Raises:
        InputError: No clip with a tracked face and sound.
    """
    cache, run, basis = runs / "cache" / "motion", runs / "motion", FaceBasis.load()
    infos = read_index(clips, cleared)
    bare = [sound for folder in speech for sound in bare_speech(folder)]
    make_cache(infos, tracks, cache, basis, bare)
    encoder = find_teacher()
    if encoder is None:
        print("No speech teacher, new voices will suffer: pip install moonshine-voice==0.0.49")
    else:
        own = [(clip.name, clip.path) for clip in infos if clip.synced]
        written = label_speech([*own, *bare], cache, encoder)
        print(f"Features of the speech teacher: {written} new")
    options = TrainOptions(minutes=minutes, threads=threads, seed=seed, cleared=cleared)
    train_motion(clips, cache, run, options, basis)
    return finish(clips, cache, run, basis, runs / "motion.onnx", cleared)
