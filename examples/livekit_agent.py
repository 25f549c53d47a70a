"""A LiveKit voice agent with a face, drawn in the agent's own process.

pip install '.[livekit]'
export LIVEKIT_URL=... LIVEKIT_API_KEY=... LIVEKIT_API_SECRET=... PORTRAIT=me.jpg
python examples/livekit_agent.py dev

With WORKER=http://faces:8100 the face is drawn by examples/livekit_worker.py over there.
"""

from __future__ import annotations

import os

from livekit.agents import Agent, AgentServer, AgentSession, JobContext, JobProcess, cli

import sfumato
from sfumato.integrations.livekit import SfumatoAvatarSession
from sfumato.integrations.livekit_worker import SfumatoWorkerSession


def prepare(process: JobProcess) -> None:
    """Once a process, before somebody calls: the photo takes a second or two."""
    if "WORKER" not in os.environ:
        studio = sfumato.load(threads=2, helpers=True)
        process.userdata["avatar"] = studio.avatar(os.environ["PORTRAIT"])


server = AgentServer(setup_fnc=prepare)


@server.rtc_session()
async def talk(job: JobContext) -> None:
    session = AgentSession(stt="deepgram/nova-3", llm="openai/gpt-4.1-mini", tts="cartesia/sonic-3")
    worker = os.environ.get("WORKER")
    face = (
        SfumatoWorkerSession(worker)
        if worker
        else SfumatoAvatarSession(job.proc.userdata["avatar"])
    )
    await face.start(session, room=job.room)  # before the session, which would speak itself
    await session.start(Agent(instructions="You are a friendly host."), room=job.room)
    session.generate_reply(instructions="Greet the visitor in one sentence.")


if __name__ == "__main__":
    cli.run_app(server)
