"""A photo is your camera in a video meeting, and says what you say into the microphone.

Choose the virtual camera in the meeting; the meeting takes your voice from the microphone itself.
pyvirtualcam tells what it needs: v4l2loopback on Linux, OBS on Windows and macOS.

pip install sounddevice pyvirtualcam
python examples/virtual_camera.py me.jpg
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pyvirtualcam
import sounddevice

import sfumato
from sfumato.timebase import FPS, SAMPLE_RATE


async def main(photo: str) -> None:
    avatar = sfumato.load(threads=2, helpers=True).avatar(photo)
    size = avatar.portrait.canvas.size
    async with sfumato.LiveSession(avatar) as session:

        def heard(samples: Any, *_: Any) -> None:  # (n, 1) float32, from a thread of sounddevice
            session.push(samples[:, 0].copy(), realtime=True)

        with (
            pyvirtualcam.Camera(width=size, height=size, fps=FPS) as camera,
            sounddevice.InputStream(SAMPLE_RATE, channels=1, dtype="float32", callback=heard),
        ):
            print(f"{camera.device} shows {photo}")
            async for frame in session:
                camera.send(frame.image)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
