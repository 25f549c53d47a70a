"""Networks of the face encoder as torch modules, with the weights that ship with the package."""

from __future__ import annotations

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

from sfumato import weights


def filled(module: nn.Module, file: str) -> nn.Module:
    """``module`` with the weights of the network ``file``, frozen, as in use.

    Layers are taken in order, the first ones of the network if ``module`` has fewer. What export
    folded into a convolution stays there: batch normalisation behind it only adds its bias.
    """
    graph = onnx.load_model_from_string(weights.read(file)).graph
    stored = {t.name: numpy_helper.to_array(t).astype(np.float32) for t in graph.initializer}
    casts = {n.output[0]: n.input[0] for n in graph.node if n.op_type == "Cast"}
    layers = (
        [torch.from_numpy(stored[casts.get(i, i)].copy()) for i in node.input[1:3]]
        for node in graph.node
        if node.op_type in ("Conv", "Gemm")
    )
    for name, buffer in module.named_buffers(recurse=False):
        buffer.copy_(torch.from_numpy(stored[name].copy()))
    bias = torch.zeros(0)
    for part in module.modules():
        if isinstance(part, (nn.Conv2d, nn.Linear)):
            weight, bias = next(layers)
            part.weight.data.copy_(weight)
            if part.bias is not None:
                part.bias.data.copy_(bias)
        elif isinstance(part, nn.BatchNorm2d):
            part.weight.data.fill_((1 + part.eps) ** 0.5)
            part.bias.data.copy_(bias)
    return module.eval().requires_grad_(False)
