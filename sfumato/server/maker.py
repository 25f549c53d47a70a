"""Makes one video, in a process of its own that live sessions need not wait for.

Threads of one process share Python's lock, so that a busy one delays all others; a process that
has less priority does not. One that dies takes nothing with it. The order comes on standard input:
a line of JSON (:func:`order_line`), then the photo's file. How far it is goes to standard output, a
line of JSON for every frame: ``{"done": 3, "total": 250}``, or ``{"error": "one line"}``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import sfumato
from sfumato.controls import MotionOptions
from sfumato.errors import InputError, SfumatoError
from sfumato.media.audio import AudioReader
from sfumato.server.options import VideoOptions
from sfumato.server.photos import avatar_of
from sfumato.timebase import FPS, SAMPLE_RATE, frames_for

_NICE = 19


def order_line(
    recording: Path,
    output: Path,
    face: int | None,
    options: VideoOptions,
    *,
    longest: float,
    threads: int,
) -> bytes:
    """The order's first line.

    Args:
        recording: what is spoken; output: where the video shall lie.
        face: which face of the photo.
        options: how the video shall be.
        longest: seconds that the recording may last.
        threads: cores to use.
    """
    order = {
        "recording": str(recording),
        "output": str(output),
        "face": face,
        "size": options.size,
        "seed": options.seed,
        "full_frame": options.full_frame,
        "motion": options.motion.to_json(),
        "longest": longest,
        "threads": threads,
    }
    return json.dumps(order).encode() + b"\n"


def make(order: dict[str, Any], photo: bytes) -> None:
    """Make a video, telling how far it is.

    Raises:
        SfumatoError: Photo or recording cannot be used, or the video cannot be written.
    """
    recording, longest = Path(order["recording"]), float(order["longest"])
    total = _frames(recording, longest)

    def progress(done: int, expected: int | None) -> None:
        if done > longest * FPS:  # its header told less
            raise _too_long(recording, longest)
        _tell({"done": done, "total": max(total, done)})

    avatar = avatar_of(
        sfumato.load(order["threads"], alone=True, helpers=True),
        photo,
        size=order["size"],
        face=order["face"],
        full_frame=order["full_frame"],
    )
    motion = MotionOptions.from_json(order["motion"])
    clip = avatar.animate(recording, seed=order["seed"], options=motion)
    clip.save(order["output"], progress=progress)


def _frames(recording: Path, longest: float) -> int:
    """Frames of the video; browsers' recordings do not tell, so their samples are counted."""
    with AudioReader(recording) as reader:
        samples = round((reader.duration or 0) * SAMPLE_RATE)
        for part in reader if not samples else ():
            samples += len(part)
            if samples > longest * SAMPLE_RATE:
                break
    if samples > longest * SAMPLE_RATE:
        raise _too_long(recording, longest)
    return max(frames_for(samples), 1)


def _too_long(recording: Path, longest: float) -> InputError:
    return InputError(f"{recording} lasts longer than {longest / 60:g} minutes: cut it")


def _tell(content: dict[str, Any]) -> None:
    print(json.dumps(content), flush=True)


def main() -> None:
    """Make what standard input asks for."""
    # A session of its own would spare this, but Linux would share the cores evenly among sessions.
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which ends this
    if hasattr(os, "nice"):
        os.nice(_NICE)
    order = json.loads(sys.stdin.buffer.readline())
    try:
        make(order, sys.stdin.buffer.read())
    except SfumatoError as error:
        _tell({"error": " ".join(str(error).split())})
    except BrokenPipeError:
        os._exit(1)  # the server is gone: nobody is left to be told


if __name__ == "__main__":
    main()
