"""A machine that draws the face of LiveKit agents that run elsewhere; one room at a time.

pip install '.[livekit]'
python examples/livekit_worker.py me.jpg 0.0.0.0    # in a private network; localhost by default

The agent: WORKER=http://this-machine:8100 python examples/livekit_agent.py dev
"""

from __future__ import annotations

import logging
import sys

from aiohttp import web

import sfumato
from sfumato.integrations.livekit_worker import worker


def main(photo: str, host: str = "localhost") -> None:
    logging.basicConfig(level=logging.INFO)
    avatar = sfumato.load(threads=2, helpers=True).avatar(photo)
    web.run_app(worker(avatar, places=1), host=host, port=8100)


if __name__ == "__main__":
    main(*sys.argv[1:])
