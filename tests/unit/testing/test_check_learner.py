"""`check_learner`: our learners pass, a learner with a fault does not."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import pytest
from own_plugins import own_plugins

from malfl_algos.contract import LearnedStage, StageTruth
from malfl_algos.learners.ma_spi import MaSpi
from malfl_algos.plugins.claims import log_e_values
from malfl_algos.testing import check_learner
from malfl_algos.trace import NextStateCounts, Stage
from malfl_env import grid_world_v0, markov_game

OWN = [plugin.name for plugin in own_plugins() if plugin.kind == "learner"]


@dataclass(frozen=True)
class Learner(MaSpi):
    """MA-SPI; subclasses add an error."""

    def learn(self, env: Any, *, n_stages: int, rng: np.random.Generator) -> Iterator[LearnedStage]:
        game = markov_game(env)
        return self.spoilt(super().learn(env, n_stages=n_stages, rng=rng), game)

    def spoilt(self, stages: Iterator[LearnedStage], game: Any) -> Iterator[LearnedStage]:
        return (self.spoil(stage, game) for stage in stages)

    def spoil(self, stage: LearnedStage, game: Any) -> LearnedStage:
        return stage


def _of_class(base: type, **fields: Any) -> type:
    return dataclass(frozen=True)(type("Faulty", (base,), {"__module__": __name__, **fields}))


def spoiling(spoil: Callable[[LearnedStage, Any], Any]) -> type:
    """A learner whose every stage is changed."""
    return _of_class(Learner, spoil=lambda self, stage, game: spoil(stage, game))


def observing(change: Callable[[Stage, Any], Any]) -> type:
    """A learner whose observed stage is changed."""
    return spoiling(lambda stage, game: replace(stage, observed=change(stage.observed, game)))


def claiming(change: Callable[[np.ndarray], np.ndarray]) -> type:
    """A learner that claims other policies for agent_1."""
    return spoiling(
        lambda stage, game: replace(
            stage,
            truth=StageTruth(
                {**stage.joint_policy, "agent_1": change(stage.joint_policy["agent_1"])}
            ),
        )
    )


def learning(learn: Callable[..., Any]) -> type:
    """A learner with another `learn`, which gets that of MA-SPI."""

    def own(self: MaSpi, env: Any, *, n_stages: int, rng: np.random.Generator) -> Any:
        def inner(env: Any = env, rng: Any = rng) -> Any:
            return MaSpi.learn(self, env, n_stages=n_stages, rng=rng)

        return learn(self, inner, env, rng)

    return _of_class(MaSpi, learn=own)


@dataclass(frozen=True)
class StageWithRewards(Stage):
    """A subclass with data that no observer may see."""

    rewards: Any = None


def _elsewhere(stage: LearnedStage) -> LearnedStage:
    """Both agents always stay, but the counts are in another state than the start."""
    counts = np.zeros_like(stage.observed.joint_counts)
    counts[-1, 4, 4] = 10
    stay = {agent: np.eye(5)[np.full(len(own), 4)] for agent, own in stage.joint_policy.items()}
    return LearnedStage(Stage(counts), StageTruth(stay))


def _correlated(counts: np.ndarray) -> np.ndarray:
    """The same actions of each agent, but not drawn independently."""
    table = np.zeros_like(counts)
    for state, plays in enumerate(counts):
        rows, columns = plays.sum(1), plays.sum(0)
        for a in range(len(rows)):
            for b in range(len(columns)):
                both = min(rows[a], columns[b])
                table[state, a, b] += both
                rows[a] -= both
                columns[b] -= both
    return table


def _spoilt_steps(stage: LearnedStage, **columns: Callable[[Any], Any]) -> LearnedStage:
    steps = stage.observed.transitions
    if steps is None:
        return stage
    changed = {name: change(getattr(steps, name)) for name, change in columns.items()}
    return replace(stage, observed=replace(stage.observed, transitions=replace(steps, **changed)))


def _with_seen(stage: Stage, change: Callable[[NextStateCounts], Any]) -> Stage:
    seen = stage.next_state_counts
    return stage if seen is None else replace(stage, next_state_counts=change(seen))


def _overwriting(self: Any, inner: Any, env: Any, rng: Any) -> Iterator[LearnedStage]:
    policies: dict[str, np.ndarray] = {}
    for stage in inner():
        for agent, policy in stage.joint_policy.items():
            policies.setdefault(agent, policy.copy())[...] = policy
        yield replace(stage, truth=StageTruth(policies))


def _claiming_too_early(self: Any, inner: Any, env: Any, rng: Any) -> Iterator[Any]:
    """Claims the improved policies, not those that it played."""
    before = None
    for stage in inner():
        if before is not None:
            yield replace(before, truth=stage.truth)
        before = stage
    yield before


def _from_a_fixed_seed(self: Any, inner: Any, env: Any, rng: Any) -> Any:
    return inner(rng=np.random.default_rng(5))


def _from_global_numpy(self: Any, inner: Any, env: Any, rng: Any) -> Any:
    return inner(rng=np.random.default_rng(np.random.randint(10**6)))  # noqa: NPY002


def _draws_from_random(self: Any, inner: Any, env: Any, rng: Any) -> Iterator[Any]:
    for stage in inner():
        random.random()
        yield stage


def _from_the_clock(self: Any, inner: Any, env: Any, rng: Any) -> Any:
    return inner(rng=np.random.default_rng(time.perf_counter_ns()))


class _SharedStream(np.random.Generator):
    """All learners draw from the generator of the last one that began."""

    latest: Any = None

    def __init__(self, rng: np.random.Generator) -> None:
        super().__init__(rng.bit_generator)
        _SharedStream.latest = rng

    def integers(self, *arguments: Any, **options: Any) -> Any:
        return _SharedStream.latest.integers(*arguments, **options)


def _shared(self: Any, inner: Any, env: Any, rng: Any) -> Iterator[Any]:
    return inner(rng=_SharedStream(rng))


def _counting_uses(self: Any, inner: Any, env: Any, rng: Any) -> Any:
    uses = self.__dict__.setdefault("uses", [])
    uses.append(1)
    return inner(rng=np.random.default_rng([len(uses), int(rng.integers(1000))]))


def _closing(self: Any, inner: Any, env: Any, rng: Any) -> Iterator[Any]:
    yield from inner()
    env.unwrapped.step = None


def _changing_rewards(self: Any, inner: Any, env: Any, rng: Any) -> Iterator[Any]:
    yield from inner()
    env.unwrapped.markov_game = lambda: markov_game(grid_world_v0.parallel_env(size=2))


def _leaving_a_thread(self: Any, inner: Any, env: Any, rng: Any) -> Iterator[Any]:
    end = threading.Event()
    thread = threading.Thread(target=end.wait, args=(30,), daemon=True, name="left")
    thread.start()
    yield from inner()
    end.set()
    thread.join()


def _failing_to_close(self: Any, inner: Any, env: Any, rng: Any) -> Iterator[Any]:
    try:
        yield from inner()
    except GeneratorExit:
        raise KeyError("no") from None


def _playing_first(self: Any, inner: Any, env: Any, rng: Any) -> Any:
    env.reset(seed=0)
    env.step({agent: env.action_space(agent).sample() for agent in env.agents})
    return inner()


def _playing_anything(self: Any, inner: Any, env: Any, rng: Any) -> Any:
    known = hasattr(env.unwrapped, "markov_game")
    return inner(env=env if known else grid_world_v0.parallel_env(size=2))


def _playing_without_actions(self: Any, inner: Any, env: Any, rng: Any) -> Any:
    known = env.metadata["name"] != "continuous_actions"
    return inner(env=env if known else grid_world_v0.parallel_env(size=2))


def _with_an_odd_error(self: Any, inner: Any, env: Any, rng: Any) -> Any:
    if not hasattr(env.unwrapped, "markov_game"):
        raise KeyError("states")
    return inner()


@dataclass(frozen=True)
class Lenient(MaSpi):
    """Accepts any discount."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "discount", min(max(self.discount, 0.0), 0.99))
        super().__post_init__()


@dataclass(frozen=True)
class Wordless(MaSpi):
    """Rejects without naming the value."""

    def __post_init__(self) -> None:
        try:
            super().__post_init__()
        except ValueError:
            raise ValueError("bad configuration") from None


@dataclass(frozen=True)
class Asserting(MaSpi):
    """Rejects by an AssertionError."""

    def __post_init__(self) -> None:
        assert self.discount >= 0


@dataclass(frozen=True)
class Undocumented(MaSpi):
    """Has an option without documentation."""

    mood: float = field(default=0.0)


@dataclass(frozen=True)
class OtherSignature(MaSpi):
    """Needs an argument that the protocol does not have."""

    def learn(self, env: Any, n_stages: int, generator: Any) -> Any:  # type: ignore[override]
        return iter(())


@dataclass
class NotFrozen:
    """Is not frozen."""

    api_version: ClassVar[tuple[int, int]] = (2, 0)


def _uniform(policy: np.ndarray) -> np.ndarray:
    return np.full_like(policy, 1 / policy.shape[1])


FAULTS: dict[str, list[Any]] = {
    "not a plugin: .*frozen": [NotFrozen],
    r"not a plugin: .*learn\(self.*cannot be called as learn\(self, env": [OtherSignature],
    r"option without documentation: Undocumented.mood": [Undocumented],
    "call raised: ZeroDivisionError": [spoiling(lambda stage, game: 1 // 0)],
    "not a LearnedStage": [spoiling(lambda stage, game: stage.observed)],
    "not a plain Stage": [
        observing(lambda own, game: StageWithRewards(own.joint_counts, rewards=game.rewards))
    ],
    "wrong number of stages: n_stages is 3, the learner yielded 2": [
        _of_class(
            Learner,
            spoilt=lambda self, stages, game: (s for s, _ in zip(stages, "12", strict=False)),
        )
    ],
    "wrong number of stages: .*more than 3": [
        _of_class(
            Learner, spoilt=lambda self, stages, game: (s for one in stages for s in (one, one))
        )
    ],
    "counts of another game": [observing(lambda own, game: Stage(own.joint_counts[:-1]))],
    "empty stage": [observing(lambda own, game: Stage(own.joint_counts * 0))],
    "policies of other agents": [
        spoiling(
            lambda s, game: replace(s, truth=StageTruth({"agent_0": s.joint_policy["agent_0"]}))
        )
    ],
    "policy of the wrong shape": [claiming(lambda policy: policy[:-1])],
    "policy is not a distribution": [
        claiming(lambda policy: policy * 1.1),
        claiming(lambda policy: policy * np.nan),
    ],
    "stage overwritten later": [learning(_overwriting)],
    "counts contradict the policies: .*are not draws": [
        claiming(lambda policy: np.roll(policy, 1, axis=1)),
        claiming(_uniform),
        observing(lambda own, game: replace(own, joint_counts=_correlated(own.joint_counts))),
    ],
    "counts contradict the policies: .*claimed for stage": [learning(_claiming_too_early)],
    "counts contradict the policies: .*probability 0": [
        claiming(lambda policy: np.eye(policy.shape[1])[policy.argmax(axis=1)])
    ],
    "visits a joint state that cannot occur": [spoiling(lambda stage, game: _elsewhere(stage))],
    "no next-state counts": [
        observing(lambda own, game: replace(own, next_state_counts=None)),
    ],
    "call raised: InputError: rows must be in": [
        observing(
            lambda own, game: _with_seen(own, lambda seen: replace(seen, rows=seen.rows + 10**6))
        )
    ],
    "call raised: InputError: joint_counts hold .* next_state_counts hold": [
        observing(
            lambda own, game: _with_seen(own, lambda seen: replace(seen, counts=seen.counts + 1))
        )
    ],
    "impossible next state": [
        observing(
            lambda own, game: _with_seen(
                own, lambda seen: replace(seen, next_states=np.roll(seen.next_states, 7))
            )
        ),
    ],
    "keep_transitions not honoured": [
        observing(lambda own, game: replace(own, transitions=None)),
    ],
    "call raised: InputError: (joint_actions|episode_ends|states|complete) must be": [
        spoiling(lambda s, game: _spoilt_steps(s, complete=lambda own: None)),
        spoiling(lambda s, game: _spoilt_steps(s, joint_actions=lambda own: own[:, :1])),
        spoiling(lambda s, game: _spoilt_steps(s, episode_ends=lambda own: own.astype(int))),
        spoiling(lambda s, game: _spoilt_steps(s, states=lambda own: own.astype(float))),
    ],
    "call raised: InputError: joint_counts hold .* transitions hold": [
        spoiling(lambda s, game: _spoilt_steps(s, joint_actions=lambda own: own[:, ::-1])),
    ],
    "call raised: InputError: steps must continue": [
        spoiling(lambda s, game: _spoilt_steps(s, episode_ends=lambda own: own & False)),
        spoiling(lambda s, game: _spoilt_steps(s, next_states=lambda own: np.roll(own, 1))),
    ],
    "transitions do not follow one another": [
        spoiling(lambda s, game: _spoilt_steps(s, episode_ends=lambda own: own | True)),
    ],
    "keeping transitions changes the trace": [
        learning(
            lambda self, inner, env, rng: inner(
                rng=np.random.default_rng([self.keep_transitions, int(rng.integers(99))])
            )
        )
    ],
    "one seed, two results": [learning(_from_the_clock)],
    "learners share state": [learning(_shared)],
    "a learner remembers its last use": [learning(_counting_uses)],
    "every seed gives one trace": [learning(_from_a_fixed_seed)],
    "global random state touched: the global generator of numpy": [learning(_from_global_numpy)],
    "global random state touched: the global generator of random": [learning(_draws_from_random)],
    "environment not left as it was found": [learning(_closing)],
    "inputs written to": [learning(_changing_rewards)],
    "thread left behind: .*left": [learning(_leaving_a_thread)],
    "call raised: KeyError.*closed": [learning(_failing_to_close)],
    "bad option not rejected": [Lenient],
    "rejection does not name the option": [Wordless],
    "wrong kind of error: .*AssertionError": [Asserting],
    "counts of another game: .*no tabular model": [learning(_playing_anything)],
    "environment not rejected": [learning(_playing_without_actions)],
    "rejected too late": [learning(_playing_first)],
    "wrong kind of error: .*KeyError": [learning(_with_an_odd_error)],
}


@pytest.mark.parametrize("name", OWN)
def test_our_own_learners_pass(name):
    check_learner(name)


def test_exact_evaluation_passes():
    check_learner(MaSpi, options={"evaluation": "exact"})


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("complaint", "faulty"),
    [(complaint, faulty) for complaint, own in FAULTS.items() for faulty in own],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_fault_is_found_and_named(monkeypatch, complaint, faulty):
    monkeypatch.setattr("malfl_algos.testing.learner.PATIENCE", 0.2)
    before = random.getstate()
    with pytest.raises(AssertionError, match=f"^{complaint}"):
        check_learner(faulty)
    assert random.getstate() == before


def test_the_mean_of_e_values_is_at_most_1():
    """The expectation under the claimed policy, over all outcomes of three draws."""
    claim = np.array([0.7, 0.2, 0.1])
    outcomes = np.array(np.meshgrid(*[range(3)] * 3)).reshape(3, -1).T
    mean: dict[str, Any] = {}
    for draws in outcomes:
        counts = np.bincount(draws, minlength=3)[None]
        for kind, values in log_e_values(counts, claim[None]).items():
            mean[kind] = mean.get(kind, 0.0) + np.exp(values) * np.prod(claim[draws])
    for kind, values in mean.items():
        np.testing.assert_allclose(values, 1.0, err_msg=kind)


def test_correct_learners_are_not_rejected():
    for seed in range(20):
        check_learner(MaSpi, seeds=(seed, seed + 1))
