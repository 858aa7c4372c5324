"""What two pricing algorithms want, from their prices alone: `python scripts/pricing_study.py`.

Two Q-learners set prices in the market of Calvano et al. (2020) with their settings: 15 prices,
memory one, step size 0.15, discount 0.95, epsilon = exp(-4e-6 t), and q that starts from the
discounted profit against a rival that draws its price evenly. After 1.5 million steps the quality
of firm 0's product falls from 2 to 1.6. The algorithms learn on, and explore again. `ma-lfl-replay`
sees the ordered prices and recovers each firm's profits as a reward of the prices that were just
set, before and after the change. One row per seed, period and firm:

- pearson: r with the profits over the price pairs that were set;
- within: the same with the mean over the own price removed for every price of the rival, that is,
  without what depends on the rival's price alone;
- other: Pearson r with the profits of the other period;
- coverage: share of the profits within 2 standard deviations, in the unit of the reward;
- explained: share of the greedy choices that the reward explains;
- word: the verdict.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos import LearningTrace, judge
from malfl_algos.observers.replay import MaLflReplay
from malfl_algos.play.q_learning import QLearners, QStage, play_q_learning
from malfl_algos.play.tabular import observed_stage
from malfl_env import MarkovGame, games

FloatArray = NDArray[np.float64]

DISCOUNT, STEP_SIZE = 0.95, 0.15
COLUMNS = ("seed", "period", "firm", "pearson", "within", "other", "coverage", "explained", "word")
PERIODS = ("before", "after")
OBSERVER: dict[str, Any] = {
    "reward_model": "next_state",
    "bootstrap": "q-learning",
    "policy": "moving",
    "choice": "greedy",
    "initial_q": "uniform_others",
    "step_size": STEP_SIZE,
    "step_size_decay": 0.0,
}


@dataclass(frozen=True)
class Market:
    """Settings of a log.

    Args:
        n_prices: number of prices.
        n_steps: in each of both periods.
        decay: b of epsilon = exp(-b t), t from the start of a period.
        n_stages: of each period.
    """

    n_prices: int = 15
    n_steps: int = 1_500_000
    decay: float = 4e-6
    n_stages: int = 10

    def games(self) -> tuple[MarkovGame, MarkovGame]:
        """The market before and after the change."""
        first = games.pricing(n_prices=self.n_prices).markov_game()
        low, high = games.nash_prices().min(), games.monopoly_prices().max()
        margin = 0.1 * (high - low)
        prices = np.linspace(low - margin, high + margin, self.n_prices)
        after = games.pricing(prices=prices, quality=(1.6, 2.0)).markov_game()
        return first, after

    def log(self, seed: int) -> LearningTrace:
        """The prices that two algorithms set."""
        rng, stages = np.random.default_rng(seed), []
        first, after = self.games()
        shape = (2, first.n_states, self.n_prices)
        learners = QLearners(first_q(first), np.zeros(shape, dtype=np.int64))
        length = self.n_steps // self.n_stages
        for game in (first, after):
            for number in range(self.n_stages):
                epsilon = float(np.exp(-self.decay * length * number))
                stage = QStage(
                    episodes=1,
                    episode_length=length,
                    discount=DISCOUNT,
                    algorithm="q_learning",
                    greedy=True,
                    moving=True,
                    exploration=(epsilon, epsilon),
                    step_size=STEP_SIZE,
                    step_size_decay=0.0,
                    restart=None,
                    keep_steps=True,
                    exploration_decay=self.decay,
                )
                sample, _ = play_q_learning(
                    game, learners, stage, seed=int(rng.integers(2**64, dtype=np.uint64))
                )
                stages.append(observed_stage(game, sample, keep_transitions=True, complete=True))
        return LearningTrace(tuple(stages))


def first_q(game: MarkovGame) -> FloatArray:
    """Discounted profits against a rival that draws its price evenly."""
    own = [np.asarray(game.reward(firm)).mean(axis=2 - firm) for firm in range(2)]
    return np.stack(own) / (1 - DISCOUNT)


def profits(game: MarkovGame, firm: int) -> FloatArray:
    """Of every pair of prices, `(n_states,)`."""
    return np.asarray(game.reward(firm)[0], dtype=np.float64).ravel()


def rows(market: Market, seed: int, periods: Sequence[str] = PERIODS) -> Iterator[list[object]]:
    """The rows of one seed."""
    log, both = market.log(seed), market.games()
    known = both[0].without_rewards()
    options: dict[str, Any] = {"discount": DISCOUNT, "temperature": None}
    for period, game in enumerate(both):
        if PERIODS[period] not in periods:
            continue
        trace = log if period else log.first(market.n_stages)
        observer = MaLflReplay(**OBSERVER, reward_changes=market.n_stages if period else None)
        result = observer.recover(trace, game=known, **options)
        verdict = judge(result, trace, game=known, observer=observer, **options)
        visited = np.zeros(game.n_states, dtype=bool)
        for stage in log.stages[market.n_stages * period :][: market.n_stages]:
            assert stage.transitions is not None
            visited[np.asarray(stage.transitions.next_states)] = True
        for firm, agent in enumerate(trace.agents):
            assert result.sd is not None
            found, sd = result.rewards[agent], result.sd[agent]
            truth, other = profits(game, firm), profits(both[1 - period], firm)
            size = found @ found / (found @ (truth - truth.mean()))
            error = np.abs(found - size * (truth - truth.mean()))
            yield [
                seed,
                PERIODS[period],
                firm,
                *(
                    round(float(np.corrcoef(one[visited], two[visited])[0, 1]), 5)
                    for one, two in (
                        (found, truth),
                        (within(found, firm), within(truth, firm)),
                        (found, other),
                    )
                ),
                round(float((error <= 2 * sd)[visited].mean()), 3),
                round(float(result.diagnostics[agent]["explained_choices"]), 4),
                verdict.of(agent).word,
            ]


def within(table: FloatArray, firm: int) -> FloatArray:
    """The table with its mean over the own price removed, `(n_states,)`."""
    n = round(len(table) ** 0.5)
    square = table.reshape(n, n)
    return np.asarray(square - square.mean(axis=firm, keepdims=True)).ravel()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(100, 105)))
    parser.add_argument("--prices", type=int, default=15)
    parser.add_argument("--steps", type=int, default=1_500_000, help="steps of each period")
    parser.add_argument("--decay", type=float, default=4e-6, help="b of epsilon = exp(-b t)")
    parser.add_argument("--periods", nargs="+", choices=PERIODS, default=PERIODS)
    chosen = parser.parse_args(arguments)
    market = Market(chosen.prices, chosen.steps, chosen.decay)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(COLUMNS)
    for seed in chosen.seeds:
        writer.writerows(rows(market, seed, chosen.periods))
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
