"""A Pipecat voice bot with a face, to be met in the browser.

pip install '.[pipecat]' 'pipecat-ai[runner,webrtc]'
export OPENAI_API_KEY=... PORTRAIT=me.jpg
python examples/pipecat_bot.py    # and open the address that it prints
"""

from __future__ import annotations

import os

from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.runner.types import RunnerArguments
from pipecat.runner.utils import create_transport
from pipecat.services.openai.llm import OpenAILLMService
from pipecat.services.openai.stt import OpenAISTTService
from pipecat.services.openai.tts import OpenAITTSService
from pipecat.transports.base_transport import TransportParams
from pipecat.workers.runner import WorkerRunner

import sfumato
from sfumato.integrations.pipecat import SfumatoVideoService

SIZE = 512


def with_picture() -> TransportParams:
    """video_out_is_live stays off: that keeps lips and voice together."""
    return TransportParams(
        audio_in_enabled=True,
        audio_out_enabled=True,
        video_out_enabled=True,
        video_out_width=SIZE,
        video_out_height=SIZE,
    )


async def bot(arguments: RunnerArguments) -> None:
    transport = await create_transport(arguments, {"webrtc": with_picture})
    key = os.environ["OPENAI_API_KEY"]
    context = LLMContext([{"role": "system", "content": "You are a friendly host. Be brief."}])
    detect = LLMUserAggregatorParams(vad_analyzer=SileroVADAnalyzer())
    user, assistant = LLMContextAggregatorPair(context, user_params=detect)
    studio = sfumato.load(threads=2, helpers=True)
    stages = [
        transport.input(),
        OpenAISTTService(api_key=key),
        user,
        OpenAILLMService(api_key=key),
        OpenAITTSService(api_key=key),
        SfumatoVideoService(avatar=studio.avatar(os.environ["PORTRAIT"], size=SIZE)),
        transport.output(),
        assistant,
    ]
    runner = WorkerRunner(handle_sigint=arguments.handle_sigint)
    await runner.add_workers(PipelineWorker(Pipeline(stages)))
    await runner.run()


if __name__ == "__main__":
    from pipecat.runner.run import main

    main()
