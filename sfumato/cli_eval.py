"""``sfumato eval``: measure the product on data that it never saw."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from sfumato.cli_progress import Progress
from sfumato.errors import InputError

evaluate = typer.Typer(
    no_args_is_help=True,
    help="Measure quality on held-out pictures and clips; figures as JSON, sheets as PNG.",
)

Clips = Annotated[Path, typer.Argument(help="Folder of clips, with index.tsv or without.")]
Json = Annotated[Path | None, typer.Option("--json", help="Also write the figures here.")]
Report = Annotated[Path | None, typer.Option(help="Folder for sheets to look at.")]
Most = Annotated[int, typer.Option(min=1, help="Clips at most.")]


@evaluate.command()
def face(
    stills: Annotated[Path, typer.Argument(help="Folder of pictures.")],
    labels: Annotated[Path, typer.Option(help="The teacher's labels, by teacher.py.")] = Path(
        "runs/cache/stills.npz"
    ),
    output: Json = None,
) -> None:
    """Landmarks against the teacher: error and faces found, by style.

    Example: sfumato eval face faces/ --json face.json
    """
    from sfumato.eval.face import evaluate_face

    _require(stills, labels)
    _show(evaluate_face(stills, labels), output)


@evaluate.command()
def latents(
    tracks: Annotated[Path, typer.Argument(help="Labels of clips by teacher.py.")],
    index: Annotated[Path | None, typer.Option(help="index.tsv of the clips.")] = None,
    output: Json = None,
) -> None:
    """The bases: reconstruction of held-out people, leaks between identity and dynamics.

    Example: sfumato eval latents runs/cache/tracks --index corpus/index.tsv
    """
    from sfumato.eval.latents import evaluate_latents

    _require(tracks)
    _show(evaluate_latents(tracks, index), output)


@evaluate.command()
def reenact(clips: Clips, most: Most = 10, output: Json = None, report: Report = None) -> None:
    """One frame of a real clip drives the rest: L1, SSIM, mouth and eyes, against the clip.

    Example: sfumato eval reenact corpus/ --report sheets/
    """
    from sfumato.eval.reenact import evaluate_reenactment

    _require(clips)
    _show(evaluate_reenactment(clips, most, report), output)


@evaluate.command()
def decoder(
    data: Annotated[
        Path | None, typer.Option(help="Folder of clips, with index.tsv or without.")
    ] = None,
    stills: Annotated[
        Path | None, typer.Option(help="Folder of pictures with index.tsv, to compare groups.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Table with tabs: file of --stills, columns of groups.")
    ] = None,
    most: Annotated[
        int | None, typer.Option(min=1, help="Clips and stills at most; all if left out.")
    ] = None,
    identity: Annotated[
        Path | None, typer.Option(help="Folder of mobileface.json and .bin, to compare identities.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Folder of decoder_*.onnx; the shipped ones if left out.")
    ] = None,
    output: Json = None,
    report: Report = None,
) -> None:
    """The learned decoder against the explicit renderer: on real clips, on stills by group.

    Example: sfumato eval decoder --data corpus/ --json decoder.json --report sheets/
    """
    from sfumato.eval.decoder import evaluate_decoder
    from sfumato.render.decoder import Decoder

    given = [path for path in (data, stills, labels, identity, weights) if path is not None]
    _require(*given)
    if data is None and stills is None:
        raise InputError("Nothing to look at: give --data with clips, --stills with pictures.")
    if labels is not None and stills is None:
        raise InputError("--labels tells groups of stills: give --stills too.")
    if identity is None:
        typer.echo("Note: no --identity, so identities are not compared.", err=True)
    learned = Decoder.load(folder=weights)
    figures: dict[str, Any] = {}
    if data is not None:
        with Progress("Comparing") as progress:
            figures = evaluate_decoder(data, learned, most, report, identity, progress)
    if stills is not None:
        from sfumato.eval.decoder_stills import evaluate_stills

        with Progress("Driving stills") as progress:
            figures["stills"] = evaluate_stills(
                stills, learned, labels, most, report, identity, progress
            )
    _show(figures, output)


@evaluate.command()
def motion(
    clips: Clips,
    tracks: Annotated[Path, typer.Option(help="Labels of the clips by teacher.py.")] = Path(
        "runs/cache/tracks"
    ),
    output: Json = None,
) -> None:
    """Motion from sound against tracked people, by group: lips, life, rest in silence.

    Example: sfumato eval motion corpus/ --tracks runs/cache/tracks --json motion.json
    """
    from sfumato.eval.motion import evaluate_motion

    _require(clips, tracks)
    _show(evaluate_motion(clips, tracks), output)


@evaluate.command()
def talk(clips: Clips, most: Most = 40, output: Json = None) -> None:
    """Lip-sync of rendered speech, tracked again, against the real clips.

    Example: sfumato eval talk corpus/ --json talk.json
    """
    from sfumato.eval.talk import evaluate_talk

    _require(clips)
    _show(evaluate_talk(clips, most), output)


@evaluate.command()
def portraits(
    folder: Annotated[Path, typer.Argument(help="Folder of pictures.")],
    output: Json = None,
    report: Report = None,
) -> None:
    """Every picture of a folder: found or refused, exact at rest, and sheets of it moving.

    Example: sfumato eval portraits pictures/ --report sheets/
    """
    from sfumato.eval.portraits import evaluate_portraits

    _require(folder)
    _show(evaluate_portraits(folder, report), output)


def _require(*paths: Path) -> None:
    for path in paths:
        if not path.exists():
            raise InputError(f"No file or folder {path}: check the name.")


def _show(figures: dict[str, Any], output: Path | None) -> None:
    text = json.dumps(figures, indent=2)
    typer.echo(text)
    if output is not None:
        output.write_text(text + "\n", encoding="utf8")
