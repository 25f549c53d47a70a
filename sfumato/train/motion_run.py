"""``sfumato train speech`` and ``sfumato train motion`` from clips to weights."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sfumato.corpus import ClipInfo, read_index
from sfumato.errors import InputError
from sfumato.latent import FaceBasis
from sfumato.train.blinks import lids_follow
from sfumato.train.interior import cache_looks
from sfumato.train.motion import TrainOptions, split_people, train_motion
from sfumato.train.motion_cache import bare_speech, make_cache
from sfumato.train.motion_clips import load_takes
from sfumato.train.motion_export import finish, load_net
from sfumato.train.speech import SpeechOptions, load_encoder, train_speech
from sfumato.train.speech_export import export_speech
from sfumato.train.speech_phones import label_phones, transcripts
from sfumato.train.speech_teacher import find_teacher, label_speech


def make_speech(
    clips: Path,
    tracks: Path,
    runs: Path,
    speech: Iterable[Path] = (),
    minutes: float = 60.0,
    threads: int = 1,
    seed: int = 0,
    cleared: bool = False,
    head: bool = False,
) -> Path:
    """Everything from clips to a network that :class:`sfumato.hearing.SpeechEncoder` loads.

    Args:
        clips: corpus folder with ``index.tsv`` or plain videos.
        tracks: their labels by teacher.py.
        runs: gets ``cache/motion``, ``speech/last.pt`` and ``speech.onnx``; what is cached is kept.
        speech: folders of recordings without faces.
        minutes: of training.
        threads: of the processor.
        seed: of weights and order.
        cleared: only clips with a cleared licence.
        head: train only what reads the face off the hidden features.

    Returns:
        The path of ``speech.onnx``.

    Raises:
        InputError: No clip with a tracked face and sound.
    """
    cache, basis = runs / "cache" / "motion", FaceBasis.load()
    infos = read_index(clips, cleared)
    folders = list(speech)
    bare = [sound for folder in folders for sound in bare_speech(folder)]
    _fill(infos, bare, tracks, cache, basis)
    words = [transcripts(folder) for folder in folders]
    known = {name: text[path.stem] for name, path in bare for text in words if path.stem in text}
    print(f"Recordings aligned with their words: {label_phones(bare, known, cache)} new")
    options = SpeechOptions(
        minutes=minutes, threads=threads, seed=seed, cleared=cleared, head=head,
        rate=1e-3 if head else SpeechOptions.rate,
        agree_weight=8.0 if head else SpeechOptions.agree_weight,
    )  # fmt: skip
    last = train_speech(clips, cache, runs / "speech", options, basis)
    export_speech(load_encoder(last), runs / "speech.onnx")
    return runs / "speech.onnx"


def _fill(
    infos: list[ClipInfo],
    bare: list[tuple[str, Path]],
    tracks: Path,
    cache: Path,
    basis: FaceBasis,
) -> None:
    make_cache(infos, tracks, cache, basis, bare)
    cache_looks((clip for clip in infos if clip.synced), tracks, cache)
    encoder = find_teacher()
    if encoder is None:
        print("No speech teacher, new voices will suffer: pip install moonshine-voice==0.0.49")
        return
    own = [(clip.name, clip.path) for clip in infos if clip.synced]
    written = label_speech([*own, *bare], cache, encoder)
    print(f"Features of the speech teacher: {written} new")


def make_motion(
    clips: Path,
    tracks: Path,
    runs: Path,
    encoder: Path | None = None,
    minutes: float = 30.0,
    threads: int = 1,
    seed: int = 0,
    cleared: bool = False,
) -> Path:
    """Everything from clips to a network that :class:`sfumato.generator.Generator` loads.

    Args:
        clips, tracks, minutes, threads, seed, cleared: as :func:`make_speech`.
        runs: gets ``cache/motion``, ``motion/best.pt`` and ``motion.onnx``.
        encoder: checkpoint of the speech encoder; ``speech/last.pt`` below ``runs`` without.

    Returns:
        The path of ``motion.onnx``.

    Raises:
        InputError: No speech encoder, or no clip with a tracked face and sound.
    """
    speech = encoder or runs / "speech" / "last.pt"
    if not speech.exists():
        raise InputError(f"no speech encoder {speech}: run  sfumato train speech  first")
    cache, basis = runs / "cache" / "motion", FaceBasis.load()
    infos = read_index(clips, cleared)
    make_cache(infos, tracks, cache, basis)
    options = TrainOptions(minutes=minutes, threads=threads, seed=seed, cleared=cleared)
    takes = load_takes(infos, cache, basis, load_encoder(speech), seed)
    best = train_motion(takes, runs / "motion", options, basis)
    net, spread = load_net(best)
    _, check = split_people(takes)
    target = runs / "motion.onnx"
    finish(net, spread, takes, check, lids_follow(infos, cache, basis), basis, target)
    return target
