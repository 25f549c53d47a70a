"""A photo speaks a recording: a marked video file.

python examples/file.py me.jpg hello.wav hello.mp4
"""

from __future__ import annotations

import sys

import sfumato


def main(photo: str, recording: str, video: str) -> None:
    avatar = sfumato.load(threads=2, helpers=True).avatar(photo)
    for warning in avatar.warnings:
        print(warning)
    options = sfumato.MotionOptions(expressiveness=1.1, emotion={"happy": 0.3})
    avatar.animate(recording, seed=1, options=options).save(video)


if __name__ == "__main__":
    main(*sys.argv[1:])
