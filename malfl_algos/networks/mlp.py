"""Stacks of small networks: M multilayer perceptrons of one shape, evaluated together.

A stack is a list of tensors, weight `(M, n_in, n_out)` and bias `(M, 1, n_out)` of every layer in
turn, which an optimiser takes as it is. Nothing here touches torch's global random state.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from malfl_env.errors import InputError

__all__ = [
    "adam",
    "apply",
    "generator_from",
    "init",
    "torch_device",
]

Parameters = list[Tensor]

_PLAIN: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}  # whatever torch's defaults are


def torch_device(name: str) -> torch.device:
    """The device of that name, once something has been put there.

    Raises:
        InputError: where there is none.
    """
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    # torch says RuntimeError, AssertionError, NotImplementedError, depending on the device
    except Exception as fault:
        there = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
        raise InputError(
            f"device {name!r} cannot be used here, choose one of {', '.join(there)}"
        ) from fault
    return device


def generator_from(rng: np.random.Generator) -> torch.Generator:
    """A generator of torch's (on the CPU), seeded by one draw."""
    return torch.Generator("cpu").manual_seed(int(rng.integers(2**63)))


def init(
    generator: torch.Generator,
    sizes: Sequence[int],
    *,
    copies: int = 1,
    last_scale: float = 1.0,
    device: torch.device | str = "cpu",
) -> Parameters:
    """A stack of networks with random weights (He's normal initialisation) and biases 0.

    The values depend on the generator alone, not on the device.

    Args:
        generator: of the weights, on the CPU.
        sizes: widths from the input to the output.
        copies: M.
        last_scale: factor on the last layer's weights; 0: the network's output is 0 at first.
        device: where the tensors live.
    """
    parameters: Parameters = []
    for layer, (n_in, n_out) in enumerate(pairwise(sizes)):
        last = layer == len(sizes) - 2
        scale = last_scale * (1.0 / n_in) ** 0.5 if last else (2.0 / n_in) ** 0.5
        weight = torch.randn((copies, n_in, n_out), generator=generator, **_PLAIN) * scale
        bias = torch.zeros((copies, 1, n_out), **_PLAIN)
        parameters += [tensor.to(device).requires_grad_(True) for tensor in (weight, bias)]
    return parameters


def apply(parameters: Sequence[Tensor], inputs: Tensor) -> Tensor:
    """Outputs of all networks of a stack, `(M, n, n_out)`, rectified linear units between layers.

    Args:
        parameters: of the stack.
        inputs: `(n, n_in)`, the same for all networks, or `(M, n, n_in)`.
    """
    x = inputs if inputs.ndim == 3 else inputs.expand(len(parameters[0]), *inputs.shape)
    for layer in range(0, len(parameters), 2):
        x = torch.baddbmm(parameters[layer + 1], x, parameters[layer])
        if layer < len(parameters) - 2:
            x = torch.relu(x)
    return x


def adam(parameters: Sequence[Tensor], learning_rate: float) -> torch.optim.Adam:
    """Adam, its state as torch would make it under its own default dtype and device."""
    optimizer = torch.optim.Adam(list(parameters), lr=learning_rate)
    for parameter in parameters:
        optimizer.state[parameter] = {
            "step": torch.zeros((), **_PLAIN),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }
    return optimizer
