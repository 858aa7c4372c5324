"""A run in memory: one learner in one family with one seed, and what its rewards are judged by."""

from __future__ import annotations

from dataclasses import dataclass

from malfl_algos.experiments.cell import learn
from malfl_algos.experiments.config import ExperimentConfig
from malfl_algos.experiments.parts import needs_transitions, reachable_states
from malfl_algos.ground_truth import GroundTruth
from malfl_algos.scores.inputs import Reference, reference, with_policies
from malfl_algos.trace import LearningTrace
from malfl_env import MarkovGame

__all__ = ["Played", "play"]


@dataclass(frozen=True, eq=False)
class Played:
    """A run after its learner has learned.

    Args:
        config: what was run, of one family and one seed.
        trace: what may be seen.
        truth: what may not.
        base: the true game, and what recovered rewards are measured on.
    """

    config: ExperimentConfig
    trace: LearningTrace
    truth: GroundTruth
    base: Reference

    @property
    def game(self) -> MarkovGame:
        """The dynamics, without rewards."""
        assert self.base.game is not None
        return self.base.game.without_rewards()


def play(config: ExperimentConfig) -> Played:
    """Let the learner learn, and keep what the observers of the configuration need.

    Raises:
        InputError: as `learn`.
    """
    (family,), (seed,) = config.reward_families, config.seeds
    trace, truth = learn(
        config, family=family, seed=seed, keep_transitions=needs_transitions(config)
    )
    game = config.markov_game(family)
    base = reference(
        game,
        discount=config.discount,
        temperature=config.temperature,
        states=reachable_states(game),
    )
    return Played(config, trace, truth, with_policies(base, truth.joint_policies))
