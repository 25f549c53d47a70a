"""Caches that say what they were made with, so that no training learns from stale ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from sfumato import weights
from sfumato.errors import InputError
from sfumato.media.files import save_text

NAME = "made_with.json"
# What finds and follows faces.
TRACKER = (
    "basis.npz",
    "face_detector.onnx",
    "face_landmarks.onnx",
    "face_eyes.onnx",
    "face_lips.onnx",
)


def stamp(cache: Path, version: int, made_with: Iterable[str] = ()) -> None:
    """Begin a cache, or make sure that it is what would be made now.

    Args:
        cache: its folder.
        version: of the code that fills it: another number where it would fill it otherwise.
        made_with: names of weights that it depends on, as :func:`sfumato.weights.find` has them.

    Raises:
        InputError: It was made with other weights, or by another version.
    """
    now = {"version": str(version)} | {name: _digest(name) for name in made_with}
    path = cache / NAME
    if not path.exists():
        if any(cache.rglob("*.np[yz]")):
            raise _stale(cache, "by an older version")
        cache.mkdir(parents=True, exist_ok=True)
        save_text(path, json.dumps(now, indent=1) + "\n")
        return
    then = json.loads(path.read_text(encoding="utf8"))
    if then.get("version") != now["version"]:
        raise _stale(cache, "by another version")
    if changed := [name for name, digest in now.items() if then.get(name) != digest]:
        raise _stale(cache, f"with another {', '.join(changed)}")


def _digest(name: str) -> str:
    return hashlib.sha256(weights.read(name)).hexdigest()[:16]


def _stale(cache: Path, why: str) -> InputError:
    return InputError(f"{cache} was made {why}: remove the folder, it will be made anew")
