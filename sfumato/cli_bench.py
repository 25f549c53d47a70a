"""``sfumato bench``: how fast this machine is, file by file and live."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sfumato.cli_options import FILES, RUN
from sfumato.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

bench = typer.Typer(
    invoke_without_command=True,
    help="Measure speed and memory of every stage on this machine."
    "\n\nExample: sfumato bench --json figures.json",
)

Json = Annotated[
    Path | None, typer.Option(help="Also write the figures to this file.", rich_help_panel=FILES)
]
Force = Annotated[
    bool, typer.Option("--force", "-f", help="Replace an existing file.", rich_help_panel=FILES)
]


@bench.callback()
def stages(
    context: typer.Context,
    json: Json = None,
    force: Force = False,
    long: Annotated[
        bool,
        typer.Option("--long", help="Also ten minutes of sound.", rich_help_panel=RUN),
    ] = False,
) -> None:
    """Measure speed and memory of every stage on this machine.

    Example: sfumato bench --json figures.json
    """
    if context.invoked_subcommand is None:
        from sfumato.eval.bench import run_bench

        _measure(lambda: run_bench(long), json, force)
    elif json is not None or force or long:
        raise InputError(f"Options of {context.invoked_subcommand} stand behind its name.")


@bench.command()
def live(
    seconds: Annotated[
        float, typer.Option(min=5, help="Of speech for delay and load.", rich_help_panel=RUN)
    ] = 60.0,
    workers: Annotated[
        int, typer.Option(min=0, help="As of sfumato serve.", rich_help_panel=RUN)
    ] = 0,
    json: Json = None,
    force: Force = False,
) -> None:
    """Measure a live session: a server and a visitor who speaks, both on this machine.

    Delay from sound to picture, frame rate, load, interruption, recording, how many sessions the
    machine carries and what each of them weighs. Example: sfumato bench live --seconds 600
    """
    try:
        from sfumato.eval.bench_live import run_bench_live
    except ModuleNotFoundError as error:
        raise InputError(
            f"Live sessions need {error.name}: install it with  pip install 'sfumato[server]'"
        ) from None
    _measure(lambda: run_bench_live(seconds, workers), json, force)


def _measure(work: Callable[[], dict[str, Any]], json: Path | None, force: bool) -> None:
    from sfumato.eval.bench import show
    from sfumato.media.files import check_output, save_text

    if json is not None:
        check_output(json, force, (".json",))
    figures = work()
    show(figures)
    if json is not None:
        save_text(json, dumps(figures, indent=2) + "\n")
