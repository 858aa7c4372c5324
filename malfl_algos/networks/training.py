"""The training loop of a network: mini-batches, held-out data, checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from malfl_algos.networks.checkpoints import Checkpoint
from malfl_algos.networks.mlp import adam, set_rate
from malfl_algos.networks.recording import Recorded
from malfl_algos.work.telling import say
from malfl_env.errors import InputError

__all__ = ["Trained", "TrainingSettings", "pieces", "train"]

Arrays = dict[str, NDArray[Any]]

SAVED_EVERY = 5
"""Rounds between two checkpoints."""


@dataclass(frozen=True)
class TrainingSettings:
    """Length and speed of a training.

    Args:
        epochs: largest number of rounds.
        batch_size: items per gradient step.
        learning_rate: initial rate of Adam.
        patience: rounds without a better held-out loss before the learning rate is halved.
        halvings: training ends when the learning rate has been halved this many times.
        steady: for losses that held-out data cannot monitor (saddle points). All rounds are made,
            the learning rate is halved `halvings` times at equal distances, and the result is the
            last parameters.
        least_steps: smallest number of gradient steps per round; small data take many passes.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    patience: int = 5
    halvings: int = 4
    steady: bool = False
    least_steps: int = 50


@dataclass(eq=False)
class Trained:
    """State of a training.

    Args:
        parameters: of the lowest held-out loss.
        best_loss: the lowest held-out loss.
        waited: rounds since then, or since the learning rate was halved.
        halved: how often the learning rate was halved.
        epoch: number of finished rounds.
        finished: whether early stopping has ended the training.
        history: training and held-out loss of every round.
    """

    parameters: list[Tensor]
    best_loss: float = float("inf")
    waited: int = 0
    halved: int = 0
    epoch: int = 0
    finished: bool = False
    history: list[tuple[float, float]] = field(default_factory=list)

    @property
    def progress(self) -> dict[str, Any]:
        """The JSON part of a checkpoint."""
        names = ("best_loss", "waited", "halved", "epoch", "finished")
        return {name: getattr(self, name) for name in names}


def pieces(rows: Tensor, size: int) -> Iterator[Tensor]:
    """Yield the rows in pieces of at most `size`."""
    for begin in range(0, len(rows), size):
        yield rows[begin : begin + size]


def train(
    parameters: Sequence[Tensor],
    loss: Callable[[Tensor], Tensor],
    held_out: Callable[[], float],
    n_items: int,
    *,
    settings: TrainingSettings,
    generator: torch.Generator,
    saver: Checkpoint | None = None,
    log: Callable[[int, float, float], None] | None = None,
    recorded: bool = False,
) -> Trained:
    """Minimise a loss by Adam on mini-batches, with early stopping by a held-out loss.

    Args:
        parameters: changed in place.
        loss: mean loss of some items, given their numbers.
        held_out: held-out loss at the present parameters.
        n_items: number of items.
        settings: length and speed.
        generator: draws the order of the items, on the CPU.
        saver: checkpoint of the state, written every few rounds; training resumes from it.
        log: receives round, training loss and held-out loss.
        recorded: whether the loss can be recorded, see `Recorded`; it then receives the numbers of
            items on the device of the parameters.

    Raises:
        RuntimeError: if a loss is not finite; the last checkpoint stays.
    """
    optimizer = adam(parameters, settings.learning_rate)
    state = Trained([p.detach().clone() for p in parameters])
    if saver is not None:
        _restore(saver, parameters, optimizer, generator, state)
    n_batches = -(-n_items // settings.batch_size)
    repeats = -(-settings.least_steps // n_batches)
    device = parameters[0].device if recorded else torch.device("cpu")
    steps = _Steps(loss, optimizer, parameters, device)
    while not state.finished and state.epoch < settings.epochs:
        say(f"training a network: round {state.epoch + 1} of at most {settings.epochs}")
        set_rate(optimizer, settings.learning_rate / 2**state.halved)
        total = 0.0
        for _ in range(repeats):
            total += _epoch(steps, n_items, settings, generator)
        train_loss, held = total / repeats, held_out()
        if not np.isfinite(train_loss) or not np.isfinite(held):
            raise RuntimeError(
                f"the loss is not finite in round {state.epoch} (training {train_loss}, held out "
                f"{held}): lower learning_rate, which is {settings.learning_rate}"
            )
        state.history.append((train_loss, held))
        _after_round(state, parameters, held, settings)
        if log is not None:
            log(state.epoch, train_loss, held)
        ending = state.finished or state.epoch >= settings.epochs
        if saver is not None and (ending or state.epoch % SAVED_EVERY == 0):
            saver.save(_packed(parameters, optimizer, generator, state), state.progress)
    return state


class _Steps:
    """The gradient steps of a training; those of equal numbers of items are one recorded step.

    Args:
        loss, optimizer, parameters: of the training.
        device: where the numbers of the items are wanted.
    """

    def __init__(
        self,
        loss: Callable[[Tensor], Tensor],
        optimizer: torch.optim.Optimizer,
        parameters: Sequence[Tensor],
        device: torch.device,
    ) -> None:
        self._loss, self._optimizer, self._device = loss, optimizer, device
        self._parameters = list(parameters)
        self._steps: dict[int, tuple[Tensor, Recorded]] = {}
        self._total: Tensor | None = None

    def __call__(self, batch: Tensor) -> None:
        """Make a step on some items."""
        if len(batch) not in self._steps:
            place = torch.empty(len(batch), dtype=batch.dtype, device=self._device)
            step = Recorded(partial(self._make, place), self._device)
            self._steps[len(batch)] = place, step
        place, step = self._steps[len(batch)]
        place.copy_(batch)
        step()

    def total(self) -> float:
        """Return the sum of the items' losses since the last call."""
        assert self._total is not None
        found = float(self._total)
        self._total.zero_()
        return found

    def _make(self, batch: Tensor) -> None:
        value = self._loss(batch)
        gradients = torch.autograd.grad(value, self._parameters, allow_unused=True)
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = gradient
        self._optimizer.step()
        if self._total is None:
            self._total = torch.zeros((), dtype=torch.float64, device=value.device)
        self._total += value.detach().double() * len(batch)


def _epoch(
    step: _Steps, n_items: int, settings: TrainingSettings, generator: torch.Generator
) -> float:
    """Make one pass over all items and return their mean loss."""
    if n_items <= settings.batch_size:
        batches = [torch.arange(n_items, device="cpu")]
    else:
        order = torch.randperm(n_items, generator=generator, device="cpu")
        batches = list(pieces(order, settings.batch_size))
    for batch in batches:
        step(batch)
    return step.total() / n_items


def _after_round(
    state: Trained, parameters: Sequence[Tensor], held: float, settings: TrainingSettings
) -> None:
    state.epoch += 1
    if settings.steady:
        state.halved = state.epoch * (settings.halvings + 1) // settings.epochs
    if settings.steady or held < state.best_loss:
        state.parameters = [p.detach().clone() for p in parameters]
        state.best_loss, state.waited = held, 0
        return
    state.waited += 1
    if state.waited >= settings.patience:
        state.waited, state.halved = 0, state.halved + 1
        state.finished = state.halved >= settings.halvings


_MOMENTS = {"step": "step", "first": "exp_avg", "second": "exp_avg_sq"}
"""Names in a checkpoint of Adam's state of every parameter."""


def _packed(
    parameters: Sequence[Tensor],
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    state: Trained,
) -> Arrays:
    arrays: Arrays = {"generator": generator.get_state().numpy().copy()}
    for number, parameter in enumerate(parameters):
        tensors = {"now": parameter, "best": state.parameters[number]}
        tensors |= {name: optimizer.state[parameter][key] for name, key in _MOMENTS.items()}
        for name, tensor in tensors.items():
            arrays[f"{name}/{number}"] = tensor.detach().cpu().numpy().copy()
    arrays["history"] = np.array(state.history, dtype=np.float64).reshape(-1, 2)
    return arrays


def _restore(
    saver: Checkpoint,
    parameters: Sequence[Tensor],
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    state: Trained,
) -> None:
    """Restore the whole state from a checkpoint, if there is one."""
    found = saver.load()
    if found is None:
        return
    arrays, progress = found
    try:
        generator.set_state(torch.from_numpy(arrays["generator"].astype(np.uint8)))
        for number, parameter in enumerate(parameters):
            now, best = (_like(parameter, arrays, f"{name}/{number}") for name in ("now", "best"))
            with torch.no_grad():
                parameter.copy_(now)
            state.parameters[number] = best
            for name, key in _MOMENTS.items():
                old = optimizer.state[parameter][key]
                optimizer.state[parameter][key] = _like(old, arrays, f"{name}/{number}")
        for name, value in state.progress.items():
            setattr(state, name, type(value)(progress[name]))
        state.history = [(float(a), float(b)) for a, b in arrays["history"]]
    except (KeyError, TypeError, ValueError, RuntimeError) as fault:
        raise saver.broken(fault) from fault


def _like(tensor: Tensor, arrays: Arrays, name: str) -> Tensor:
    """Return a saved array as a tensor of the same shape, type and device."""
    if arrays[name].shape != tuple(tensor.shape):
        raise InputError(f"{name} has shape {arrays[name].shape}, must have {tuple(tensor.shape)}")
    return torch.from_numpy(arrays[name]).to(tensor)
