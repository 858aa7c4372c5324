"""A stricter test of PettingZoo parallel environments than PettingZoo's own.

`check_parallel_env` looks for errors that `parallel_api_test` and `parallel_seed_test` accept:
observations outside their space, NaN rewards, seeds that hold for one step and shared buffers. Run
it in addition to them, on any parallel environment.

Public: the names in `__all__`. The modules of this package are private. Read `run` first: it drives
an environment; `protocol` has the checks of single values, `seeding` and `isolation` those of whole
episodes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from malfl_env.arguments import typed
from malfl_env.testing.isolation import check_action_order, check_copies, check_scribbling
from malfl_env.testing.protocol import Plan
from malfl_env.testing.run import global_random_state, restore_global_random_state
from malfl_env.testing.seeding import check_hash_seeds, check_one_seed, check_streams

__all__ = ["check_parallel_env"]


@typed
def check_parallel_env(
    factory: Callable[[], Any],
    *,
    seeds: Sequence[int] = (0, 1),
    n_steps: int = 100,
    episode_limit: int = 1000,
    n_episodes: int = 3,
    compare_infos: bool = True,
    stochastic: bool | None = None,
    hash_seeds: Sequence[int] = (),
) -> None:
    """Raise an AssertionError that names the first error of a parallel environment.

    The test draws actions from copies of the action spaces and obeys an `action_mask` in an agent's
    observation or info. It restores the global generators of numpy and `random`. A message has the
    form `error: what and which value (step and seed)`. These are the errors:

    - *Declaration*: "not a parallel environment"; "factory returned one object twice"; "no name in
      metadata"; "possible_agents repeats or is empty"; "not a space"; "space is a new object" (each
      agent's spaces must be the same object at every call, also after a reset).
    - *Returned values*, at every reset and step: "call raised" (in `close()`, too); "wrong return
      value" (a reset returns two dicts, a step five); "agent missing from ..." and "agent too many
      in ..." observations, rewards, terminations, truncations or infos (extra keys in infos are
      allowed if they name no agent); "observation outside its space" (type, shape, dtype or value);
      "reward is not a number" (text, bools, arrays), "reward is not finite"; "flag in ... is not a
      bool"; "info is not a dict"; "state() outside state_space" where there is one; "action_mask
      does not fit its space" (for MultiDiscrete, Gymnasium takes a tuple of masks, not one array).
    - *Agents*: "no agents after reset"; "agent outside possible_agents"; "possible_agents changed";
      "agent listed twice"; "finished agent still in agents"; "finished agent came back"; "agent
      left without an end".
    - *Memory*: "observation shared between agents" (with `state()` as well; read-only memory may be
      shared); "info shared between agents"; "returned value overwritten later"; "writing to an
      observation changes the environment"; "step() changed the action dict".
    - *Randomness*: "global random state touched" (numpy or `random`, at construction, reset, step
      or state()); "reset observations differ for one seed"; "seed ignored" (from the first step);
      "seed holds for N steps only"; "reset() without a seed is not reproducible" (a later episode
      after one seed differs between two new environments: the generator was replaced); "used
      environment cannot be re-seeded"; "reset() repeats the seeded episode"; "reset() returns to a
      fixed stream"; "every seed gives the same episode"; "environments share state".
    - *Order*: "order of the action dict matters"; "PYTHONHASHSEED changes the results"
      ("episode in another process failed" if that process fails).
    - *Copies*, by copy.deepcopy and pickle, if the environment supports them: "copy (...) shares
      state with the original"; "copy (...) cannot be re-seeded".

    Args:
        factory: makes a new environment at each call.
        seeds: at least two different integers >= 0.
        n_steps: length of the longest episode in most checks. Later errors are not found.
        episode_limit: length of the longest first episode; choose it so that episodes can end.
        n_episodes: episodes in a row after one seed.
        compare_infos: False if infos hold values that may differ, such as wall times, or that are
            rewritten later, as in PettingZoo's turn_based_aec_to_parallel.
        stochastic: whether the environment is random. None: it counts as deterministic if its
            episodes never differ. True: equal episodes for a dozen seeds are an error. False:
            different episodes are an error ("declared free of chance"), but `reset()` without a
            seed may start differently.
        hash_seeds: values of PYTHONHASHSEED to compare, for example (0, 1, 2). Each plays one
            episode in a new process (seconds, not milliseconds), which must be able to import
            `factory` by its module and name.

    Raises:
        AssertionError: with the first error found.
        InputError: for invalid options, or hash seeds with a factory that is defined locally.

    Passing is evidence from a few episodes of random play, not a proof. The random errors ("reset()
    repeats ...", "... fixed stream", "every seed ...") are raised only if a correct environment
    would show the same behaviour with a probability of about 1e-6 or less.
    """
    plan = Plan(
        factory=factory,
        seeds=tuple(seeds),
        n_steps=n_steps,
        episode_limit=episode_limit,
        n_episodes=n_episodes,
        infos=compare_infos,
        stochastic=stochastic,
    )
    before = global_random_state()
    try:
        for check in (
            check_one_seed,
            check_action_order,
            check_scribbling,
            check_streams,
            check_copies,
        ):
            check(plan)
        if hash_seeds:
            check_hash_seeds(plan, hash_seeds)
    finally:
        restore_global_random_state(before)
