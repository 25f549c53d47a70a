"""``sfumato export``: motion for 3D programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sfumato.cli_options import FILES, Force

SUFFIXES = (".csv", ".gltf")


def export(
    motion: Annotated[Path, typer.Argument(help="Motion file from `sfumato motion`.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Where to write: .csv or .gltf.", rich_help_panel=FILES
        ),
    ] = None,
    force: Force = False,
) -> None:
    """Write a motion file as ARKit blendshapes and head pose for 3D programs.

    The ending chooses the format: .csv for importers of Live Link Face, .gltf for an animated face
    mesh (Blender, three.js). 25 frames a second. Example: sfumato export hello.motion -o hello.gltf
    """
    from sfumato.arkit import write_gltf, write_live_link_csv
    from sfumato.media.files import check_output, require_file
    from sfumato.motionfile import Motion

    target = check_output(output or Path(f"{motion.stem}.csv"), force, SUFFIXES, (motion,))
    moves = Motion.load(require_file(motion, "motion file"))
    write = write_gltf if target.suffix.lower() == ".gltf" else write_live_link_csv
    write(moves, target)
    typer.echo(target)
