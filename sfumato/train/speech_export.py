"""Writes the trained speech encoder as ONNX: one frame of a stream at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from sfumato.hearing import FORMAT_VERSION
from sfumato.models.speech import SpeechEncoder
from sfumato.speech import HOPS_PER_FRAME, N_MELS
from sfumato.train.onnx_file import Stepwise, write


def export_speech(net: SpeechEncoder, path: Path) -> None:
    """Writes ``path``; complete or absent.

    Args:
        net: trained; its heads for teacher and matching stay behind.
        path: of the ONNX file.
    """
    size = int(sum(np.prod(shape) for shape in net.state_shapes))
    inputs = {
        "features": torch.zeros(1, HOPS_PER_FRAME, N_MELS),
        "state": torch.zeros(1, size),
    }
    facts = {
        "format_version": str(FORMAT_VERSION),
        "look_ahead": str(net.dims.look_ahead),
        "state_size": str(size),
        "window_frames": str(net.dims.past + net.dims.look_ahead + 1),
    }
    outputs = ["hidden", "expression", "interior", "voice", "next_state"]
    write(Stepwise(net.step), inputs, outputs, facts, path)
