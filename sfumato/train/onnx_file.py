"""One frame of a stream as an ONNX file with half-size weights and facts inside."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import onnx
import torch
from onnx import helper
from torch import Tensor, nn

from sfumato.train.export import halve_weights


class Stepwise(nn.Module):
    """A network whose one frame is exported instead of its forward pass over many."""

    def __init__(self, step: Callable[..., tuple[Tensor, ...]]) -> None:
        super().__init__()
        owner = getattr(step, "__self__", None)
        if isinstance(owner, nn.Module):
            self.owner = owner
        self._step = step

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return self._step(*inputs)


def write(
    network: nn.Module,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    facts: dict[str, str],
    path: Path,
) -> None:
    """Writes ``path``; complete or absent.

    Args:
        network: called with the inputs in their order.
        inputs: examples by name, of the only shapes that the file will take.
        outputs: names.
        facts: stored as the model's properties.
        path: of the file.
    """
    buffer = io.BytesIO()
    torch.onnx.export(
        network.eval(), tuple(inputs.values()), buffer, input_names=list(inputs),
        output_names=list(outputs), opset_version=17, dynamo=False,
    )  # fmt: skip
    model = onnx.load_from_string(buffer.getvalue())
    halve_weights(model, smallest=256)
    helper.set_model_props(model, facts)
    onnx.checker.check_model(model)
    partial = path.with_suffix(".partial")
    onnx.save(model, str(partial))
    os.replace(partial, path)
