"""Networks, bases and the demo: what ships inside the package, wherever it is installed.

Files of the same names in the folder that the environment names as ``SFUMATO_WEIGHTS`` come first,
so that who trains may use what was trained so far; processes that are started find them as well.
"""

from __future__ import annotations

import functools
import hashlib
import io
import os
import zipfile
import zlib
from collections.abc import Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.errors import InputError

FOLDER = "SFUMATO_WEIGHTS"  # variable of the environment
_WEIGHTS = (".onnx", ".npz")


def find(name: str) -> Traversable:
    """The file ``name``, such as "basis.npz" or "demo/speech.ogg": one's own or the shipped one.

    Raises:
        FileNotFoundError: The installation is incomplete; installing again cures it.
        InputError: The environment names something else than a folder.
    """
    folder = os.environ.get(FOLDER)
    if folder and not Path(folder).is_dir():
        raise InputError(f"{FOLDER} is {folder}, which is no folder here: give its whole path")
    if folder and (own := Path(folder) / name).is_file():
        return own
    found = resources.files("sfumato").joinpath("data", *name.split("/"))
    if not found.is_file():
        raise FileNotFoundError(f"sfumato/data/{name} is missing: install the package again")
    return found


def read(name: str) -> bytes:
    """The content of a file, see :func:`find`."""
    return find(name).read_bytes()


def table(source: str | Traversable) -> dict[str, NDArray[Any]]:
    """The arrays of a table, such as "arkit.npz", or of a file, by name.

    Raises:
        OSError, ValueError: No table can be read there.
    """
    content = read(source) if isinstance(source, str) else source.read_bytes()
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            return dict(stored)
    except (EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"damaged: {error}") from error


def versioned(
    source: Traversable,
    version: int,
    shapes: Mapping[str, tuple[int | None, ...]],
    what: str,
    cure: str,
) -> dict[str, NDArray[Any]]:
    """Arrays of a table that says its ``format_version``.

    Args:
        source: the file.
        version: that there must be.
        shapes: of each array that is wanted; None stands for any length.
        what: it says something of; cure: for a table of another version. For the reader.

    Raises:
        InputError: It cannot be read, has none of the arrays, or is of another version.
    """
    try:
        stored = table(source)
    except (OSError, ValueError) as error:
        raise InputError(f"{source} says nothing of {what}: {error}") from error
    if not stored.keys() & shapes.keys():
        raise InputError(f"{source} says nothing of {what}: it has none of {', '.join(shapes)}")
    same = stored.keys() >= shapes.keys() and int(stored.get("format_version", -1)) == version
    if not same or not all(_fits(stored[name].shape, shapes[name]) for name in shapes):
        raise InputError(f"{source} is of another version: {cure}")
    return {name: stored[name] for name in shapes}


def _fits(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    pairs = zip(shape, wanted, strict=False)
    return len(shape) == len(wanted) and all(w in (None, n) for n, w in pairs)


@functools.cache
def fingerprint() -> str:
    """Which weights these are: 16 hexadecimal digits over all networks and bases."""
    digest = hashlib.sha256()
    shipped = (f for f in resources.files("sfumato").joinpath("data").iterdir() if f.is_file())
    for name in sorted(f.name for f in shipped):
        if name.endswith(_WEIGHTS):
            digest.update(name.encode() + b"\0" + hashlib.sha256(read(name)).digest())
    return digest.hexdigest()[:16]
