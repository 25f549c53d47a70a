"""The moving picture of the README: a few seconds of the built-in portrait, as animated WebP.

Run it as ``.venv/bin/python assets/make_preview.py docs/preview.webp``.
"""

from __future__ import annotations

import sys
from importlib.resources import as_file
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

import sfumato
from sfumato import weights

SIDE = 320
EVERY = 2  # every second frame: 12.5 a second
SECONDS = 6
# Speech on the left, song on the right: the two halves of the demo.
SOUNDS = ("demo/speech.ogg", "demo/song.ogg")


def halves() -> list[list[np.ndarray]]:
    studio = sfumato.load()
    with as_file(weights.find("demo/portrait.jpg")) as photo:
        avatar = studio.avatar(photo)
    both = []
    for name in SOUNDS:
        with as_file(weights.find(name)) as sound:
            frames = list(islice(avatar.animate(sound), 0, SECONDS * 25, EVERY))
        both.append(frames)
    return both


def main() -> None:
    left, right = halves()
    pictures = [
        Image.fromarray(np.hstack([a, b])).resize((2 * SIDE, SIDE), Image.Resampling.LANCZOS)
        for a, b in zip(left, right, strict=True)
    ]
    out = Path(sys.argv[1])
    out.parent.mkdir(parents=True, exist_ok=True)
    pictures[0].save(
        out, save_all=True, append_images=pictures[1:], duration=40 * EVERY, loop=0, quality=60
    )
    print(f"{out}: {len(pictures)} frames, {out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
