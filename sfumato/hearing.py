"""The speech encoder at work: features of sound in, what a face needs to know out.

One frame of sound after the other goes in; what comes out belongs to the frame ``look_ahead``
frames before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sfumato.engine import Network
from sfumato.errors import InputError
from sfumato.generator import FACE
from sfumato.speech import HOPS_PER_FRAME, N_MELS, SILENT_FEATURE

Array = NDArray[np.float32]

FORMAT_VERSION = 2


@dataclass(frozen=True)
class Heard:
    """One frame.

    Attributes:
        hidden: (n,) features of the speech.
        expression: (40,) that the sound lets expect.
        interior: (3,) of what is seen between the lips, the same.
        voice: probability that somebody speaks or sings.
    """

    hidden: Array
    expression: Array
    interior: Array
    voice: float

    @property
    def told(self) -> Array:
        """As the motion generator takes it: hidden features, expected face, voice."""
        voice = np.array([self.voice], np.float32)
        return np.concatenate([self.hidden, self.expression[FACE], voice])


class SpeechEncoder:
    """The network. Holds no state: share one between streams.

    Attributes:
        look_ahead: frames of sound after a frame that must be heard before it is understood.
    """

    def __init__(self, network: Network) -> None:
        facts = network.metadata
        if facts.get("format_version") != str(FORMAT_VERSION):
            raise InputError("the speech encoder is of another version: train or install it anew")
        self._network = network
        self.look_ahead = int(facts["look_ahead"])
        self._start = np.zeros((1, int(facts["state_size"])), np.float32)
        silence = np.full((HOPS_PER_FRAME, N_MELS), SILENT_FEATURE, np.float32)
        for _ in range(int(facts["window_frames"])):
            self._start, _ = self.hear(self._start, silence)

    @staticmethod
    @lru_cache(maxsize=2)
    def load(path: Path | None = None) -> SpeechEncoder:
        """The shipped network, or one from an ONNX file.

        Raises:
            InputError: Not a speech encoder of this version.
        """
        return SpeechEncoder(Network(path or "speech"))

    def start(self) -> Array:
        """The state after long silence."""
        return self._start

    def hear(self, state: Array, features: Array) -> tuple[Array, Heard]:
        """One frame.

        Args:
            state: of the frame before.
            features: (HOPS_PER_FRAME, N_MELS), see :mod:`sfumato.speech`.

        Returns:
            The next state, and what was heard ``look_ahead`` frames ago.
        """
        hidden, expression, interior, voice, state = self._network(features[None], state)
        return state, Heard(hidden[0], expression[0], interior[0], float(voice[0]))
