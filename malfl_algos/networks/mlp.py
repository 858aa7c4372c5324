"""Small networks: multilayer perceptrons as lists of tensors, and their optimiser.

A network is a list of the weight `(n_in, n_out)` and the bias `(n_out,)` of every layer in turn.
Nothing here changes torch's global random state or depends on its default dtype and device.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from malfl_env.errors import InputError

__all__ = [
    "PLAIN",
    "adam",
    "apply",
    "from_arrays",
    "generator_from",
    "init",
    "set_rate",
    "to_arrays",
    "torch_device",
]

Parameters = list[Tensor]

PLAIN: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}  # independent of torch's defaults


def torch_device(name: str) -> torch.device:
    """Return the device of that name, after a test that it can be used.

    Raises:
        InputError: if the device does not exist.
    """
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    # RuntimeError, AssertionError or NotImplementedError, depending on the device
    except Exception as fault:
        there = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
        raise InputError(
            f"device {name!r} cannot be used here; choose one of {', '.join(there)}"
        ) from fault
    return device


def generator_from(rng: np.random.Generator) -> torch.Generator:
    """Return a torch generator on the CPU, seeded by one draw from rng."""
    return torch.Generator("cpu").manual_seed(int(rng.integers(2**63)))


def init(
    generator: torch.Generator,
    sizes: Sequence[int],
    *,
    last_scale: float = 1.0,
    device: torch.device | str = "cpu",
) -> Parameters:
    """Return a network with random weights (He's normal initialisation) and biases 0.

    The values depend on the generator alone, not on the device.

    Args:
        generator: of the weights, on the CPU.
        sizes: widths from the input to the output.
        last_scale: factor on the weights of the last layer; 0: the initial output is 0.
        device: where the tensors live.
    """
    parameters: Parameters = []
    for layer, (n_in, n_out) in enumerate(pairwise(sizes)):
        last = layer == len(sizes) - 2
        scale = last_scale * (1.0 / n_in) ** 0.5 if last else (2.0 / n_in) ** 0.5
        weight = torch.randn((n_in, n_out), generator=generator, **PLAIN) * scale
        bias = torch.zeros(n_out, **PLAIN)
        parameters += [tensor.to(device).requires_grad_(True) for tensor in (weight, bias)]
    return parameters


def apply(parameters: Sequence[Tensor], inputs: Tensor) -> Tensor:
    """Return outputs `(n, n_out)` at inputs `(n, n_in)`; rectified linear units between layers.

    Networks may be stacked: weights `(m, n_in, n_out)`, biases `(m, 1, n_out)`, inputs and outputs
    `(m, n, ...)`.
    """
    x, product = inputs, torch.addmm if inputs.dim() == 2 else torch.baddbmm
    for layer in range(0, len(parameters), 2):
        x = product(parameters[layer + 1], x, parameters[layer])
        if layer < len(parameters) - 2:
            x = torch.relu(x)
    return x


def to_arrays(parameters: Sequence[Tensor]) -> list[NDArray[Any]]:
    """Return copies of weights and biases, for a file."""
    return [tensor.detach().cpu().numpy().copy() for tensor in parameters]


def from_arrays(arrays: Sequence[NDArray[Any]], device: torch.device | str = "cpu") -> Parameters:
    """Return the network that `to_arrays` wrote; version 0.1 wrote a first axis of length 1."""
    return [
        torch.from_numpy(
            array.astype(np.float32).reshape(array.shape[-2:] if k % 2 == 0 else -1)
        ).to(device)
        for k, array in enumerate(arrays)
    ]


def set_rate(optimizer: torch.optim.Optimizer, rate: float | Tensor) -> None:
    """Set the learning rate, in place if it is a tensor."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].copy_(torch.as_tensor(rate))
        else:
            group["lr"] = rate


def adam(parameters: Sequence[Tensor], learning_rate: float) -> torch.optim.Adam:
    """Return Adam with a state that does not depend on torch's default dtype and device.

    On a GPU its steps can be recorded as a CUDA graph; its learning rate is then a tensor.
    """
    device = parameters[0].device
    options: dict[str, Any] = {"lr": learning_rate}
    if on_gpu := device.type == "cuda":
        rate = torch.tensor(learning_rate, dtype=torch.float32, device=device)
        options = {"lr": rate, "capturable": True, "fused": True}
    optimizer = torch.optim.Adam(list(parameters), **options)
    for parameter in parameters:
        optimizer.state[parameter] = {
            "step": torch.zeros((), dtype=torch.float32, device=device if on_gpu else "cpu"),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }
    return optimizer
