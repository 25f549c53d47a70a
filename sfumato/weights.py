"""What ships inside the package: networks, bases, the demo. Found wherever it is installed."""

from __future__ import annotations

import functools
import hashlib
from importlib import resources
from importlib.resources.abc import Traversable

_WEIGHTS = (".onnx", ".npz")


def find(name: str) -> Traversable:
    """The shipped file ``name`` below ``sfumato/data``, such as "basis.npz" or "demo/speech.wav".

    Raises:
        FileNotFoundError: The installation is incomplete; installing again cures it.
    """
    found = resources.files("sfumato").joinpath("data", *name.split("/"))
    if not found.is_file():
        raise FileNotFoundError(f"sfumato/data/{name} is missing: install the package again")
    return found


def read(name: str) -> bytes:
    """The content of a shipped file."""
    return find(name).read_bytes()


@functools.cache
def fingerprint() -> str:
    """Which weights these are: 16 hexadecimal digits over all shipped networks and bases."""
    digest = hashlib.sha256()
    files = (f for f in resources.files("sfumato").joinpath("data").iterdir() if f.is_file())
    for file in sorted(files, key=lambda f: f.name):
        if file.name.endswith(_WEIGHTS):
            digest.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]
