"""A photo says what you say, in a window, while you say it. Needs sounddevice (and Tk).

pip install sounddevice
python examples/microphone.py me.jpg
"""

from __future__ import annotations

import asyncio
import sys
import tkinter
from typing import Any

import sounddevice
from PIL import Image, ImageTk

import sfumato
from sfumato.timebase import SAMPLE_RATE


async def main(photo: str) -> None:
    avatar = sfumato.load(threads=2, helpers=True).avatar(photo)
    window = tkinter.Tk()
    label = tkinter.Label(window)
    label.pack()
    async with sfumato.LiveSession(avatar) as session:
        window.protocol("WM_DELETE_WINDOW", session.close)

        def heard(samples: Any, *_: Any) -> None:  # (n, 1) float32, from a thread of sounddevice
            session.push(samples[:, 0].copy(), realtime=True)

        with sounddevice.InputStream(SAMPLE_RATE, channels=1, dtype="float32", callback=heard):
            async for frame in session:
                picture = ImageTk.PhotoImage(Image.fromarray(frame.image))
                label.configure(image=picture)
                window.update()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
