"""No training learns from a cache that was made with something else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sfumato import weights
from sfumato.errors import InputError
from sfumato.train.stamp import NAME, stamp

pytestmark = pytest.mark.unit


def test_a_cache_goes_on_as_long_as_nothing_changes(tmp_path: Path) -> None:
    cache = tmp_path / "cache" / "decoder"
    stamp(cache, 2, ("basis.npz",))
    (cache / "somebody").mkdir()
    np.savez(cache / "somebody" / "0001.npz", picture=np.zeros(3))
    stamp(cache, 2, ("basis.npz",))
    assert set(json.loads((cache / NAME).read_text())) == {"version", "basis.npz"}


def test_a_cache_of_other_weights_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, own = tmp_path / "cache", tmp_path / "own"
    stamp(cache, 2, ("basis.npz", "slide.npz"))
    own.mkdir()
    (own / "slide.npz").write_bytes(weights.read("slide.npz") + b"trained anew")
    monkeypatch.setenv(weights.FOLDER, str(own))
    with pytest.raises(InputError, match=r"cache was made with another slide\.npz: remove"):
        stamp(cache, 2, ("basis.npz", "slide.npz"))
    stamp(cache, 2, ("basis.npz",))  # who does not depend on it does not mind


def test_a_cache_of_other_code_is_refused(tmp_path: Path) -> None:
    stamp(tmp_path / "new", 1)
    with pytest.raises(InputError, match="by another version: remove the folder"):
        stamp(tmp_path / "new", 2)
    old = tmp_path / "old" / "somebody"
    old.mkdir(parents=True)
    np.savez(old / "0001.npz", picture=np.zeros(3))
    with pytest.raises(InputError, match="by an older version: remove the folder"):
        stamp(tmp_path / "old", 1)
