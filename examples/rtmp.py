"""A photo speaks a recording live, to an RTMP server or into a file.

python examples/rtmp.py me.jpg hello.wav rtmp://localhost/live/me
python examples/rtmp.py me.jpg hello.wav hello.flv
"""

from __future__ import annotations

import asyncio
import sys
from fractions import Fraction

import av

import sfumato
from sfumato.media.audio import AudioReader
from sfumato.timebase import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME


async def main(photo: str, recording: str, target: str) -> None:
    avatar = sfumato.load(threads=2, helpers=True).avatar(photo)
    with av.open(target, "w", format="flv" if target.startswith("rtmp") else None) as out:
        fast = {"preset": "veryfast", "tune": "zerolatency", "g": str(2 * FPS)}
        video = out.add_stream("libx264", rate=FPS, options=fast)
        video.width = video.height = avatar.portrait.canvas.size
        video.pix_fmt = "yuv420p"
        voice = out.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        async with sfumato.LiveSession(avatar) as session:
            with AudioReader(recording) as sound:
                for samples in sound:
                    session.push(samples)
            session.end_segment()
            async for frame in session:
                picture = av.VideoFrame.from_ndarray(frame.image, format="rgb24")
                picture.pts, picture.time_base = frame.index, Fraction(1, FPS)
                out.mux(video.encode(picture))
                pcm = av.AudioFrame.from_ndarray(frame.samples[None], "fltp", "mono")
                pcm.sample_rate, pcm.time_base = SAMPLE_RATE, Fraction(1, SAMPLE_RATE)
                pcm.pts = frame.index * SAMPLES_PER_FRAME
                out.mux(voice.encode(pcm))
                if frame.ends:
                    break
        for stream in (video, voice):
            out.mux(stream.encode(None))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
