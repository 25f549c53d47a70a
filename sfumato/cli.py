"""The command line. Each command imports what it needs when it runs, so that help is instant.

Exit codes: 0 done, 1 ``verify`` found no good mark (or a fault of ours), 2 a fault the user can
cure, told in one line, 130 stopped with Ctrl-C.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from sfumato.cli_bench import bench
from sfumato.cli_eval import evaluate
from sfumato.cli_export import export
from sfumato.cli_options import (
    FILES,
    Distance,
    Emotion,
    Expressiveness,
    FaceNumber,
    Force,
    FullFrame,
    Gaze,
    Head,
    Output,
    Photo,
    Seed,
    Size,
    Threads,
    TimelineFile,
    motion_options,
)
from sfumato.cli_progress import Progress
from sfumato.cli_serve import serve
from sfumato.cli_train import train
from sfumato.errors import InputError, SfumatoError
from sfumato.media.files import one_line
from sfumato.version import __version__

if TYPE_CHECKING:
    from sfumato.avatar import Avatar, Clip, Studio


class _Guarded(TyperGroup):
    """Turns every way to fail into one line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            _give_up("Stopped; nothing was left behind.", 130)
        except BrokenPipeError:
            # Whoever read the output has seen enough; nothing more may be written there.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(141) from None
        except SfumatoError as error:
            if ctx.params.get("debug"):
                raise
            _give_up(f"Error: {one_line(error)}", 2)
        except Exception as error:
            # Typer's own ends and usage errors know their exit code and how to show themselves.
            own = isinstance(error, typer.Abort) or hasattr(error, "exit_code")
            if own or ctx.params.get("debug"):
                raise
            _give_up(
                f"Internal error ({type(error).__name__}: {one_line(error, 200)}): a fault of"
                " Sfumato. `sfumato --debug ...` shows where; please report it.",
                1,
            )


def _give_up(line: str, code: int) -> NoReturn:
    typer.echo(line, err=True)
    raise typer.Exit(code)


app = typer.Typer(
    cls=_Guarded,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Make a portrait speak: one photo and one recording become a video, on the CPU."
    "\n\nExample: [bold]sfumato animate me.jpg hello.wav -o hello.mp4[/bold]",
)
app.add_typer(train, name="train", rich_help_panel="Workshop")
app.add_typer(evaluate, name="eval", rich_help_panel="Workshop")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sfumato {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error arose.")] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
    weights: Annotated[
        Path | None,
        typer.Option(
            "--weights",
            help="Folder of networks and bases of your own, as training writes them; what is not "
            "there is the shipped one.",
        ),
    ] = None,
) -> None:
    """The options that stand before the command."""
    if weights is not None:
        from sfumato.weights import FOLDER

        if not weights.is_dir():
            raise InputError(f"--weights {weights}: no such folder.")
        os.environ[FOLDER] = str(weights.resolve())


@app.command()
def animate(
    photo: Photo,
    audio: Annotated[Path, typer.Argument(help="Recording of speech or song; a video will do.")],
    output: Output = None,
    force: Force = False,
    size: Size = 512,
    full_frame: FullFrame = False,
    face: FaceNumber = "largest",
    seed: Seed = 0,
    expressiveness: Expressiveness = 1.0,
    head: Head = 1.0,
    gaze: Gaze = "0,0",
    distance: Distance = 1.0,
    emotion: Emotion = "neutral",
    timeline: TimelineFile = None,
    threads: Threads = 0,
) -> None:
    """Let a photo say (or sing) a recording.

    Example: sfumato animate me.jpg hello.wav -o hello.mp4
    """
    target = _video_target(output, force, photo, audio, timeline)
    _check_photo(photo)
    _check_sound(audio)
    options = motion_options(expressiveness, head, gaze, distance, timeline, emotion)
    avatar = _avatar(_studio(threads, draws=True), photo, size, face, full_frame)
    clip = avatar.animate(audio, seed=seed, options=options)
    _save(clip, target, force)


@app.command()
def drive(
    photo: Photo,
    video: Annotated[Path, typer.Argument(help="Video of one face whose motion is taken.")],
    output: Output = None,
    force: Force = False,
    size: Size = 512,
    full_frame: FullFrame = False,
    face: FaceNumber = "largest",
    threads: Threads = 0,
) -> None:
    """Move a photo like the person in a video, with the video's sound.

    Example: sfumato drive me.jpg actor.mp4 -o me-acting.mp4
    """
    from sfumato.media.audio import has_sound
    from sfumato.media.video import VideoReader

    target = _video_target(output, force, photo, video)
    _check_photo(photo)
    with VideoReader(video):
        pass
    sound = video if has_sound(video) else None
    studio = _studio(threads, draws=True)
    avatar = _avatar(studio, photo, size, face, full_frame)
    with Progress("Following") as progress:
        motion = studio.track(video, progress=progress)
    _save(avatar.perform(motion, sound), target, force)


@app.command()
def motion(
    audio: Annotated[Path, typer.Argument(help="Recording of speech or song.")],
    output: Output = None,
    force: Force = False,
    seed: Seed = 0,
    expressiveness: Expressiveness = 1.0,
    head: Head = 1.0,
    gaze: Gaze = "0,0",
    distance: Distance = 1.0,
    emotion: Emotion = "neutral",
    timeline: TimelineFile = None,
    threads: Threads = 0,
) -> None:
    """Make only the motion, a file to keep, edit and put on any photo.

    Example: sfumato motion hello.wav -o hello.motion
    """
    from sfumato.media.files import check_output

    target = output or Path(f"{audio.stem}.motion")
    check_output(target, force, (".motion",), (audio, timeline))
    _check_sound(audio)
    options = motion_options(expressiveness, head, gaze, distance, timeline, emotion)
    made = _studio(threads).motion(audio, seed=seed, options=options)
    made.save(target)
    typer.echo(target)


@app.command()
def render(
    photo: Photo,
    motion: Annotated[Path, typer.Argument(help="Motion file from `sfumato motion`.")],
    audio: Annotated[
        Path | None, typer.Option(help="Recording to be heard.", rich_help_panel=FILES)
    ] = None,
    output: Output = None,
    force: Force = False,
    size: Size = 512,
    full_frame: FullFrame = False,
    face: FaceNumber = "largest",
    threads: Threads = 0,
) -> None:
    """Put a motion file on a photo.

    Example: sfumato render me.jpg hello.motion --audio hello.wav -o hello.mp4
    """
    from sfumato.latent import Motion
    from sfumato.media.files import require_file

    target = _video_target(output, force, photo, motion, audio)
    _check_photo(photo)
    if audio is not None:
        _check_sound(audio)
    moves = Motion.load(require_file(motion, "motion file"))
    avatar = _avatar(_studio(threads, draws=True), photo, size, face, full_frame)
    _save(avatar.perform(moves, audio), target, force)


app.command()(export)
app.command()(serve)


@app.command()
def inspect(
    photo: Photo,
    output: Output = None,
    force: Force = False,
    size: Size = 512,
    face: FaceNumber = "largest",
    threads: Threads = 0,
) -> None:
    """Show what was found in a photo and what may go wrong.

    Example: sfumato inspect me.jpg -o sheet.png
    """
    from sfumato import provenance
    from sfumato.media.files import check_output, sha256_of
    from sfumato.media.image import PICTURE_SUFFIXES, save_image

    target = output or Path(f"{photo.stem}-inspect.png")
    check_output(target, force, PICTURE_SUFFIXES, (photo,))
    _check_photo(photo)
    finish = provenance.marker(photo=sha256_of(photo))
    avatar = _avatar(_studio(threads), photo, size, face, full_frame=False)
    save_image(target, avatar.inspect(), force=force, finish=finish)
    typer.echo(avatar.describe())
    typer.echo(target)


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(help="Video or picture of any origin.")],
) -> None:
    """Tell whether a file is marked as made by a machine, and by which.

    Exits with 0 if it carries a good mark, 1 if it carries none or a broken one, 2 if it cannot be
    read. Example: sfumato verify hello.mp4
    """
    from sfumato import provenance

    report = provenance.verify(file)
    typer.echo(str(report))
    raise typer.Exit(0 if report.marked and report.intact else 1)


app.add_typer(bench, name="bench")


def _check_photo(path: Path) -> None:
    """Before anything slow begins; whether it holds a picture is found soon enough."""
    from sfumato.media.files import require_file

    require_file(path, "photo")


def _check_sound(path: Path) -> None:
    """Before anything slow begins: a track that can be decoded, with a sample in it."""
    from sfumato.media.audio import AudioReader

    with AudioReader(path):
        pass


def _video_target(
    output: Path | None, force: bool, photo: Path, moves: Path, other: Path | None = None
) -> Path:
    """Where the video shall lie: a place that can be written and is none of the inputs."""
    from sfumato.media.files import check_output
    from sfumato.media.video import VIDEO_SUFFIXES

    target = output or Path(f"{photo.stem}-{moves.stem}.mp4")
    return check_output(target, force, VIDEO_SUFFIXES, (photo, moves, other))


def _studio(threads: int, *, draws: bool = False) -> Studio:
    """Networks and bases; ``draws``: for a video."""
    import sfumato
    from sfumato import machine

    return sfumato.load(threads or machine.cores(), alone=True, helpers=draws)


def _avatar(studio: Studio, photo: Path, size: int, face: str, full_frame: bool) -> Avatar:
    number = None
    if face != "largest":
        if not face.isdecimal() or int(face) < 1:
            raise InputError(f"--face {face}: say largest, or 1, 2, ... for the first, second, ...")
        number = int(face) - 1
    avatar = studio.avatar(photo, size=size, face=number, full_frame=full_frame)
    for warning in avatar.warnings:
        typer.echo(f"Note: {warning}", err=True)
    return avatar


def _save(clip: Clip, target: Path, force: bool) -> None:
    with Progress("Drawing") as progress:
        clip.save(target, force=force, progress=progress)
    typer.echo(target)


def _stop(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def main() -> None:
    """The ``sfumato`` command."""
    for name in ("SIGTERM", "SIGHUP"):  # a polite kill, a closed terminal: cleans up like Ctrl-C
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, _stop)
    # Before numpy is imported: our products of matrices are small, and threads of BLAS that wait
    # for the next one take the cores from those that draw.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
