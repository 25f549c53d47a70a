"""``sfumato train``: the workshop in which the shipped weights are made."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from sfumato.errors import InputError
from sfumato.media.files import require_file

train = typer.Typer(
    no_args_is_help=True,
    help="Train the networks and bases from folders of pictures and clips."
    "\n\nNeeds the training packages (pip install 'sfumato\\[train]') and, for the labels, the"
    " teacher's environment (make teacher).",
)

Clips = Annotated[Path, typer.Argument(help="Folder of clips, with index.tsv or without.")]
Tracks = Annotated[Path, typer.Option(help="Labels of the clips by teacher.py, a folder of .npz.")]
Runs = Annotated[Path, typer.Option(help="Where checkpoints, caches and results go.")]
Cleared = Annotated[
    bool,
    typer.Option(
        "--cleared",
        help="Only sources whose index.tsv states a licence; caches and runs lie in RUNS/cleared.",
    ),
]
Minutes = Annotated[float, typer.Option(min=0.01, help="Training time, resumed runs included.")]


@contextlib.contextmanager
def _workshop() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise InputError(
            f"Training needs {error.name}: install it with  pip install '.[train]'"
        ) from None


@train.command()
def face(
    stills: Annotated[Path, typer.Argument(help="Folder of pictures with index.tsv.")],
    clips: Clips,
    part: Annotated[
        str, typer.Option(help="detector, landmarks, matte, eyes or lips.")
    ] = "landmarks",
    labels: Annotated[Path, typer.Option(help="Labels of the pictures by teacher.py.")] = Path(
        "runs/cache/stills.npz"
    ),
    tracks: Tracks = Path("runs/cache/tracks"),
    runs: Runs = Path("runs"),
    minutes: Minutes = 60.0,
    cleared: Cleared = False,
) -> None:
    """Train a network of the face encoder.

    Example: sfumato train face faces/ corpus/ --part landmarks --minutes 120
    """
    if part not in {"detector", "landmarks", "matte", "eyes", "lips"}:
        raise InputError(f"--part {part}: say detector, landmarks, matte, eyes or lips.")
    _require_folders(stills, clips, tracks)
    require_file(labels, "labels of the pictures")
    with _workshop():
        from sfumato.train.face import train_face

        train_face(stills, labels, clips, tracks, _own(runs, cleared), part, minutes, cleared)


@train.command()
def basis(
    tracks: Annotated[Path, typer.Argument(help="Labels of clips by teacher.py.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")] = Path(
        "runs/basis.npz"
    ),
    index: Annotated[Path | None, typer.Option(help="index.tsv of the clips.")] = None,
    stills: Annotated[Path | None, typer.Option(help="Labels of pictures.")] = None,
    pictures: Annotated[
        Path | None, typer.Option(help="Folder of the pictures with index.tsv, for --cleared.")
    ] = None,
    cleared: Annotated[
        bool, typer.Option("--cleared", help="Only sources whose index.tsv states a licence.")
    ] = False,
) -> None:
    """Learn the bases of faces and expressions.

    Example: sfumato train basis runs/cache/tracks --index corpus/index.tsv
    """
    _require_folders(tracks)
    with _workshop():
        from sfumato.train.basis import train_basis

        figures = train_basis(tracks, output, index, stills, pictures=pictures, cleared=cleared)
        for name, value in figures.items():
            typer.echo(f"{name:<28} {value:.4g}")


@train.command()
def interior(
    clips: Clips,
    tracks: Tracks = Path("runs/cache/tracks"),
    runs: Runs = Path("runs"),
    cleared: Cleared = False,
) -> None:
    """Learn what open mouths show that landmarks do not tell; writes RUNS/interior.npz.

    Looks between the lips of real clips of the training split and keeps what it sees in
    RUNS/cache/motion/interior. With another interior, decoder (mouth) and speech are to be trained
    anew (docs/training.md).

    Example: sfumato train interior corpus/
    """
    _require_folders(clips, tracks)
    with _workshop():
        from sfumato.train.interior import train_interior

        runs = _own(runs, cleared)
        cache, target = runs / "cache" / "motion", runs / "interior.npz"
        for name, value in train_interior(clips, tracks, cache, target, cleared).items():
            typer.echo(f"{name:<28} {value:.4g}")


@train.command()
def speech(
    clips: Clips,
    tracks: Tracks = Path("runs/cache/tracks"),
    runs: Runs = Path("runs"),
    minutes: Minutes = 60.0,
    speech: Annotated[
        list[Path] | None, typer.Option(help="Folder of recordings without faces; repeatable.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    seed: Annotated[int, typer.Option(help="Of the first weights and the order.")] = 0,
    cleared: Cleared = False,
    head: Annotated[
        bool, typer.Option("--head", help="Only how faces are read off what was heard.")
    ] = False,
) -> None:
    """Train the speech encoder; writes RUNS/speech.onnx.

    Fills RUNS/cache/motion from the clips, their labels and the speech, adds features of a speech
    teacher where moonshine-voice is installed, and trains, again from RUNS/speech/last.pt where
    that exists, on a GPU where torch finds one. The motion generator belongs to its speech encoder:
    train that anew, too. With --head the encoder hears as before and only its answer, the face, is
    trained: the generator needs tuning then, no training.

    Example: sfumato train speech corpus/ --speech prompts/ --minutes 120
    """
    _require_folders(clips, tracks, *(speech or ()))
    with _workshop():
        from sfumato.train.motion_run import make_speech

        runs = _own(runs, cleared)
        sounds = speech or ()
        typer.echo(make_speech(clips, tracks, runs, sounds, minutes, threads, seed, cleared, head))


@train.command()
def motion(
    clips: Clips,
    tracks: Tracks = Path("runs/cache/tracks"),
    runs: Runs = Path("runs"),
    minutes: Minutes = 60.0,
    encoder: Annotated[
        Path | None, typer.Option(help="Checkpoint of the speech encoder.", show_default=False)
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    seed: Annotated[int, typer.Option(help="Of the first weights and the order.")] = 0,
    cleared: Cleared = False,
) -> None:
    """Train the generator that makes motion from what the speech encoder hears.

    Takes RUNS/speech/last.pt as the encoder where --encoder names no other, goes on from
    RUNS/motion/last.pt where that exists, tunes amplitude and rates to people set apart, and writes
    RUNS/motion.onnx. The shipped weights stay as they are; sfumato --weights RUNS uses the new.

    Example: sfumato train motion corpus/ --encoder assets/motion/speech.pt --minutes 60
    """
    _require_folders(clips, tracks)
    with _workshop():
        from sfumato.train.motion_run import make_motion

        runs = _own(runs, cleared)
        typer.echo(make_motion(clips, tracks, runs, encoder, minutes, threads, seed, cleared))


@train.command()
def slide(
    clips: Clips,
    tracks: Tracks = Path("runs/cache/tracks"),
    runs: Runs = Path("runs"),
    cleared: Cleared = False,
    start: Annotated[
        Path | None, typer.Option(help="A slide.npz to begin with; one round is enough then.")
    ] = None,
) -> None:
    """Learn from optical flow how skin slides under the mesh; writes RUNS/slide.npz.

    Drives frames of the training split to others of their clips and measures the flow to what was
    there, in RUNS/cache/slide_0 and _1; the same command goes on with what is there. The decoder
    is to be trained after it, with sfumato --weights RUNS.

    Example: sfumato train slide corpus/
    """
    _require_folders(clips, tracks)
    with _workshop():
        from sfumato.train.slide import train_slide

        typer.echo(train_slide(clips, tracks, _own(runs, cleared), cleared, start))


@train.command()
def light(
    clips: Clips,
    tracks: Tracks = Path("runs/cache/tracks"),
    runs: Runs = Path("runs"),
    cleared: Cleared = False,
) -> None:
    """Learn how the light on faces changes as they turn and move; writes RUNS/light.npz.

    Drives frames of the training split to others of their clips, skin sliding as usual, and
    measures how much brighter or darker it was there, in RUNS/cache/light; the same command goes on
    with what is there. The decoder is to be trained after it, with sfumato --weights RUNS.

    Example: sfumato train light corpus/
    """
    _require_folders(clips, tracks)
    with _workshop():
        from sfumato.train.light import train_light

        typer.echo(train_light(clips, tracks, _own(runs, cleared), cleared))


@train.command()
def sync(
    clips: Clips,
    runs: Runs = Path("runs"),
    sounds: Annotated[
        Path | None,
        typer.Option(help="Folder of mel/ and moon/ of speech; RUNS/cache/motion if left out."),
    ] = None,
    minutes: Minutes = 6.0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    seed: Annotated[int, typer.Option(help="Of the first weights and the order.")] = 0,
    cleared: Cleared = False,
) -> None:
    """Train the expert that judges whether sound and lips belong together; writes RUNS/sync.onnx.

    Tracks the real clips of the training split with our own face encoder into RUNS/cache/sync and
    learns from them alone; speech in RUNS/cache/motion that a teacher has heard adds what is to be
    expected of lips. Minutes are processor time. `sfumato --weights RUNS eval motion` prints its
    accuracy.

    Example: sfumato train sync corpus/
    """
    _require_folders(clips, *([sounds] if sounds else []))
    with _workshop():
        from sfumato.train.sync import SyncOptions, train_sync

        runs = _own(runs, cleared)
        options = SyncOptions(minutes, seed, threads=threads, cleared=cleared)
        typer.echo(train_sync(clips, runs, sounds or runs / "cache" / "motion", options))


@train.command()
def decoder(
    clips: Clips,
    tracks: Tracks = Path("runs/cache/tracks"),
    runs: Runs = Path("runs"),
    part: Annotated[
        list[str] | None, typer.Option(help="mouth or eyes; repeatable. Both without.")
    ] = None,
    minutes: Minutes = 60.0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    seed: Annotated[int, typer.Option(help="Of the first weights and the order.")] = 0,
    cleared: Cleared = False,
    start: Annotated[
        Path | None, typer.Option(help="Folder of PART.pt to begin with, like RUNS/decoder/start.")
    ] = None,
    taught_by: Annotated[
        Path | None,
        typer.Option(help="Folder of decoder_PART.onnx, of any size, to become like."),
    ] = None,
) -> None:
    """Train the networks that mend the renderer's frames; writes RUNS/decoder_PART.onnx.

    Fills RUNS/cache/decoder with pairs from the real clips of the training split, then trains every
    part for the given minutes, on a GPU where torch finds one. Checkpoints, figures and sheets on
    held-out people lie in RUNS/decoder; the same command goes on from there. sfumato --weights RUNS
    uses the new networks.

    Example: sfumato train decoder corpus/ --part mouth --minutes 120
    """
    parts = part or ["mouth", "eyes"]
    if unknown := set(parts) - {"mouth", "eyes"}:
        raise InputError(f"--part {', '.join(sorted(unknown))}: say mouth or eyes.")
    _require_folders(clips, tracks, *(f for f in (start, taught_by) if f))
    with _workshop():
        from sfumato.train.decoder import train_decoder

        runs = _own(runs, cleared)
        train_decoder(clips, tracks, runs, parts, minutes, threads, seed, cleared, start, taught_by)


@train.command()
def arkit(
    clips: Clips,
    bundle: Annotated[Path, typer.Option(help="MediaPipe's face_landmarker.task, the teacher.")],
    tracks: Tracks = Path("runs/cache/tracks"),
    runs: Runs = Path("runs"),
    cleared: Cleared = False,
) -> None:
    """Learn how motion shows as ARKit's blendshapes; writes RUNS/arkit.npz.

    Needs ai-edge-litert (pip install ai-edge-litert) to run the teacher's network. Prints the
    correlation with the teacher on people of the test split, by blendshape.

    Example: sfumato train arkit corpus/ --bundle face_landmarker.task
    """
    _require_folders(clips, tracks)
    with _workshop():
        from sfumato.train.arkit import train_arkit

        target = _own(runs, cleared) / "arkit.npz"
        for name, value in train_arkit(clips, tracks, bundle, target, cleared).items():
            typer.echo(f"{name:<28} {value:.4g}")


@train.command()
def emotion(
    stills: Annotated[Path, typer.Argument(help="Folder of pictures with index.tsv.")],
    clips: Clips,
    teacher: Annotated[Path, typer.Option(help="ONNX network that reads emotions off faces.")],
    labels: Annotated[Path, typer.Option(help="Labels of the pictures by teacher.py.")] = Path(
        "runs/cache/stills.npz"
    ),
    tracks: Tracks = Path("runs/cache/tracks"),
    runs: Runs = Path("runs"),
    cleared: Cleared = False,
) -> None:
    """Learn what emotions add to the face; writes RUNS/emotions.npz.

    The teacher takes (n, 1, 64, 64) grey faces in -1..1 and gives (n, k) probabilities; the
    metadata `classes` of its file names them.

    Example: sfumato train emotion faces/ corpus/ --teacher emotion.onnx
    """
    _require_folders(stills, clips, tracks)
    require_file(labels, "labels of the pictures")
    require_file(teacher, "teacher")
    with _workshop():
        from sfumato.train.emotion import train_emotion

        target = _own(runs, cleared) / "emotions.npz"
        figures = train_emotion(stills, labels, clips, tracks, teacher, target, cleared)
        for name, value in figures.items():
            typer.echo(f"{name:<28} {value:.4g}")


def _own(runs: Path, cleared: bool) -> Path:
    """A folder of its own, so that nothing learned from other sources is taken up again."""
    return runs / "cleared" if cleared else runs


def _require_folders(*folders: Path) -> None:
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"No folder {folder}: check the name.")
