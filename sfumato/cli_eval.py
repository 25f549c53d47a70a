"""``sfumato eval``: measure the product on data that it never saw."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from sfumato.cli_progress import Progress
from sfumato.errors import InputError
from sfumato.media.files import check_output, save_text

evaluate = typer.Typer(
    no_args_is_help=True,
    help="Measure quality on held-out pictures and clips; figures as JSON, sheets as PNG.",
)


def _writable(path: Path | None) -> Path | None:
    """Known before the work, which takes long; figures of an earlier run are replaced."""
    return None if path is None else check_output(path, True, (".json",))


Json = Annotated[
    Path | None,
    typer.Option("--json", callback=_writable, help="Also write the figures here."),
]
Report = Annotated[Path | None, typer.Option(help="Folder for sheets to look at.")]


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
    data: Annotated[Path, typer.Option(help="Folder of clips, with index.tsv or without.")],
    most: Annotated[
        int | None, typer.Option(min=1, help="Clips to render at most; all if left out.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Folder of speech.onnx and motion.onnx to measure.")
    ] = None,
    baseline: Annotated[
        Path | None,
        typer.Option(help="Folder of others to compare with; the regression if left out."),
    ] = None,
    output: Json = None,
    report: Report = None,
) -> None:
    """Motion from sound, rendered and tracked again, against real people: lips, sync, head, eyes.

    Example: sfumato eval motion --data corpus/ --json motion.json --report sheets/
    """
    from sfumato.eval.motion import evaluate_motion
    from sfumato.eval.report import motion_report

    _require(*(path for path in (data, weights, baseline) if path is not None))
    with Progress("Speaking") as progress:
        figures = evaluate_motion(data, most, report, baseline, progress, weights)
    if report is not None:
        (report / "motion.md").write_text(motion_report(figures), encoding="utf8")
    _show(figures, output)


@evaluate.command("all")
def everything(
    data: Annotated[Path, typer.Option(help="Folder of clips, with index.tsv or without.")],
    most: Annotated[
        int | None, typer.Option(min=1, help="Clips of each part at most; all if left out.")
    ] = None,
    output: Json = None,
    report: Report = None,
) -> None:
    """Decoder, motion and controls: one JSON, one Markdown report, all sheets.

    Example: sfumato eval all --data corpus/ --json all.json --report report/
    """
    from sfumato.eval.report import evaluate_all

    _require(data)
    figures = evaluate_all(data, most, report, Progress)
    _show(figures, output)


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

    if not folder.is_dir():
        raise InputError(f"No folder {folder}: check the name.")
    _show(evaluate_portraits(folder, report), output)


@evaluate.command()
def controls(
    data: Annotated[Path, typer.Option(help="Folder of clips, with index.tsv or without.")],
    judge: Annotated[
        Path | None, typer.Option(help="ONNX network that reads emotions off faces.")
    ] = None,
    most: Annotated[int, typer.Option(min=1, help="People at most.")] = 8,
    output: Json = None,
    report: Report = None,
) -> None:
    """Gaze, distance and emotion as asked against what rendered video shows.

    Example: sfumato eval controls --data corpus/ --judge judge.onnx --report sheets/
    """
    from sfumato.eval.controls import evaluate_controls

    _require(data, *([judge] if judge else []))
    if judge is None:
        typer.echo("Note: no --judge, so nobody says what emotion the faces show.", err=True)
    _show(evaluate_controls(data, judge, most, report), output)


def _require(*paths: Path) -> None:
    for path in paths:
        if not path.exists():
            raise InputError(f"No file or folder {path}: check the name.")


def _show(figures: dict[str, Any], output: Path | None) -> None:
    text = json.dumps(figures, indent=2)
    typer.echo(text)
    if output is not None:
        save_text(output, text + "\n")
