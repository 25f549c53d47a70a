"""One frame of a stream as an ONNX file, with 8-bit weights and facts inside.

A frame's work is a few products of matrices with a vector: what costs is to read the weights, which
the renderer has pushed out of the caches since the frame before.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import onnx
import torch
from onnx import helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import Tensor, nn


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
    with tempfile.TemporaryDirectory() as folder:
        whole, small = Path(folder) / "whole.onnx", Path(folder) / "small.onnx"
        torch.onnx.export(
            network.eval(), tuple(inputs.values()), str(whole), input_names=list(inputs),
            output_names=list(outputs), opset_version=17, dynamo=False,
        )  # fmt: skip
        # Seven bits: processors with AVX2 alone add pairs of products in 16 bits.
        quantize_dynamic(
            whole, small, weight_type=QuantType.QInt8, per_channel=True, reduce_range=True
        )
        model = onnx.load(str(small))
    helper.set_model_props(model, facts)
    onnx.checker.check_model(model)
    partial = path.with_suffix(".partial")
    onnx.save(model, str(partial))
    os.replace(partial, path)
