"""Checks that an environment is isolated: from dict order, returned arrays and its copies."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from malfl_env.testing.protocol import Environment, Moment, Plan
from malfl_env.testing.run import (
    Run,
    blamed,
    close,
    episode_fingerprints,
    in_step,
    moment_difference,
    opened,
)

__all__ = ["check_action_order", "check_copies", "check_scribbling"]


def _require_same(pairs: Iterator[tuple[Moment, Moment]], plan: Plan) -> None:
    for one, other in pairs:
        gap = moment_difference(one, other, infos=plan.infos)
        if gap:
            raise AssertionError(f"{gap} (step {one.step})")


def check_action_order(plan: Plan) -> None:
    """Check that the order of the action dict does not matter."""
    for seed in plan.seeds:
        with opened(plan.factory, 2) as (env, other):
            pairs = in_step(
                Run(env, infos=plan.infos),
                Run(other, infos=plan.infos, reverse=True),
                seed=seed,
                n_steps=plan.n_steps,
                action_seed=seed,
            )
            with blamed("order of the action dict matters"):
                _require_same(pairs, plan)


def check_scribbling(plan: Plan) -> None:
    """Check that writing to returned observations and states does not change the environment."""
    seed = plan.seeds[0]
    with opened(plan.factory, 2) as (env, other):
        runs = Run(env, infos=plan.infos), Run(other, infos=plan.infos, scribble=True)
        with blamed("writing to an observation changes the environment"):
            for reset_seed in (seed, None):
                pairs = in_step(*runs, seed=reset_seed, n_steps=plan.n_steps, action_seed=seed)
                _require_same(pairs, plan)


def check_copies(plan: Plan) -> None:
    """Check that copies made in mid-episode share no state with the original and can be seeded.

    An environment that cannot be copied in one of the two ways is not checked in that way.
    """
    _check_copy(plan, "copy.deepcopy", copy.deepcopy)
    _check_copy(plan, "pickle", lambda env: pickle.loads(pickle.dumps(env)))


def _check_copy(plan: Plan, name: str, duplicate: Callable[[Environment], Any]) -> None:
    first, second = plan.seeds[:2]
    with opened(plan.factory, 2) as (env, twin):
        pairs = in_step(
            Run(env, infos=plan.infos),
            Run(twin, infos=plan.infos),
            seed=first,
            n_steps=plan.n_steps,
            action_seed=first,
        )
        list(islice(pairs, 3))
        try:
            clone = duplicate(env)
        except Exception:
            # An environment with windows, files or sockets need not support copies.
            return
        try:
            copied = Run(clone, infos=plan.infos)
            with blamed(f"copy ({name}) shares state with the original"):
                episode_fingerprints(copied, seed=None, n_steps=plan.n_steps, action_seed=second)
                _require_same(pairs, plan)
            for seed in (second, first):
                with opened(plan.factory) as (new,), blamed(f"copy ({name}) cannot be re-seeded"):
                    _require_same(
                        in_step(
                            copied,
                            Run(new, infos=plan.infos),
                            seed=seed,
                            n_steps=plan.n_steps,
                            action_seed=second,
                        ),
                        plan,
                    )
        finally:
            if clone is not env:
                close(clone)
