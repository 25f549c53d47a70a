"""Tables of arrays on disk: complete or absent."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from sfumato.media.files import output_errors, replacing


def save_arrays(path: Path, arrays: Mapping[str, ArrayLike], packed: bool = False) -> None:
    """Write a ``.npz``, and the folders that it lies in; complete or absent.

    Args:
        packed: compressed, as tables that ship are; caches are read faster without.

    Raises:
        OutputError: The place cannot be written to.
    """
    with output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial, output_errors(path):
        (np.savez_compressed if packed else np.savez)(partial, allow_pickle=False, **arrays)
