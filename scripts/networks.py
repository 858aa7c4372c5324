"""Observers on grid worlds of which the samples visit only a part: `python scripts/networks.py`.

Study `small`: the 3x3 game, exact and td learners. Study `large`: a larger board, with the learners
that `--learners` names. `--observer` chooses `ma-lfl-network`, which sees rows and columns alone,
`ma-lfl-history` or `ma-lfl-bellman`, with the options that `--option` gives. Every cell writes
one JSON file, so the study can be stopped, resumed and extended; the table and the figures are made
from the cells that are present.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import yaml
from network_figures import write_network_figures
from tqdm import tqdm

from malfl_algos import LearningTrace
from malfl_algos.contract import Observer
from malfl_algos.learners.ma_spi import MaSpi
from malfl_algos.plugins import load_observer
from malfl_algos.scores import mean_interval
from malfl_algos.storage.durable import write_bytes, write_json
from malfl_env import grid_world_v0, markov_game

DISCOUNT, TEMPERATURE, STAGES, LENGTH = 0.9, 3.0, 10, 1000
FAMILIES, RANDOM = ("homogeneous", "heterogeneous"), "random-rewards"
WIDTHS = {"small": 128, "large": 256}


@dataclass(frozen=True)
class Cell:
    """One trace and one observer.

    Args:
        size: of the board.
        family: of rewards.
        learner: `td` or `exact`.
        episodes: number of episodes per stage, of 1000 steps each.
        seed: of the learners and of the observer.
        width: of the observer's random layer.
        form: the option `form` of the observer.
        observer: `ma-lfl-network`, or an observer that has no width and no form.
        options: further options of the observer, as `name=value name=value`.
        n_agents: number of agents.
    """

    size: int
    family: str
    learner: str
    episodes: int
    seed: int
    width: int
    form: str = "bellman"
    observer: str = "ma-lfl-network"
    options: str = ""
    n_agents: int = 2

    @property
    def name(self) -> str:
        """The name of its file, without suffix."""
        fields = asdict(self)
        if not self.options:
            del fields["options"]
        if self.n_agents == 2:
            del fields["n_agents"]
        return "_".join(str(value).replace(" ", "-") for value in fields.values())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the missing cells, then write the table and the figures. Returns 0; 2 for bad input."""
    parser = _parser()
    given = parser.parse_args(argv)
    if min(given.seeds) < 0 or given.episodes_small < 10 or min(given.episodes_large) < 1:
        parser.error("seeds must be >= 0, --episodes-small >= 10 and --episodes-large >= 1")
    if given.size < 2 or given.agents < 2:
        parser.error(f"--size and --agents must be >= 2, got {given.size} and {given.agents}")
    root: Path = given.output_dir
    if not given.tables_only:
        missing = [cell for cell in _cells(given) if not (root / f"{cell.name}.json").exists()]
        for cell in tqdm(missing, disable=None):
            found = run(cell, log_dir=given.log_dir, device=given.device)
            write_json(root / f"{cell.name}.json", found)
    cells = [json.loads(path.read_text()) for path in sorted(root.glob("*.json"))]
    if not cells:
        parser.error(f"{root} holds no cell of a study")
    print(write_table(cells, root))
    for path in write_network_figures(cells, root / "figures"):
        print(f"drawn: {path}")
    return 0


def run(
    cell: Cell,
    *,
    log_dir: str | None = None,
    device: str = "cpu",
) -> dict[str, Any]:
    """Let the learners learn, recover rewards, and score them.

    Args:
        cell: the trace and the observer.
        log_dir: for TensorBoard; None: no logs.
        device: of `ma-lfl-network`.
    """
    env = grid_world_v0.parallel_env(size=cell.size, n_agents=cell.n_agents, rewards=_rewards(cell))
    game = markov_game(env)
    learner = MaSpi(
        discount=DISCOUNT,
        temperature=TEMPERATURE,
        evaluation="td" if cell.learner == "td" else "exact",
        episodes=cell.episodes,
        episode_length=LENGTH,
        keep_transitions=True,
    )
    stages = learner.learn(env, n_stages=STAGES, rng=np.random.default_rng(cell.seed))
    trace = LearningTrace(tuple(stage.observed for stage in stages))
    visited = np.sum([stage.state_counts for stage in trace.stages], axis=0) > 0
    later = np.sum([stage.state_counts for stage in trace.stages[1:]], axis=0) > 0
    observer = _observer(cell, log_dir, device)
    started = process_time()
    found = observer.recover(
        trace, game=game.without_rewards(), discount=DISCOUNT, temperature=TEMPERATURE
    )
    seconds = process_time() - started
    agents = []
    for index, agent in enumerate(trace.agents):
        truth, mean = game.reward(index), found.rewards[agent]
        sd = None if found.sd is None else found.sd[agent]
        agents.append(
            {
                "agent": agent,
                "prediction": found.diagnostics[agent].get("prediction"),
                "prior": _prior(found.diagnostics[agent]),
                "all": scores(truth, mean, sd, np.ones(len(truth), dtype=bool)),
                "visited": scores(truth, mean, sd, visited),
                "visited_later": scores(truth, mean, sd, later),
                "never_visited": scores(truth, mean, sd, ~visited),
                "truth": truth.tolist(),
                "recovered": mean.tolist(),
                "sd": None if sd is None else sd.tolist(),
                "visits": np.sum([s.state_counts for s in trace.stages], axis=0).tolist(),
            }
        )
    if log_dir is not None:
        _log_scores(agents, str(Path(log_dir) / cell.name))
    return {**asdict(cell), "seconds": seconds, "agents": agents}


def _rewards(cell: Cell) -> Any:
    """The name of the family, or one table per agent of independent standard normal values."""
    if cell.family != RANDOM:
        return cell.family
    rng = np.random.default_rng(np.random.SeedSequence(cell.seed, spawn_key=(1,)))
    return tuple(rng.standard_normal((cell.n_agents, cell.size ** (2 * cell.n_agents))))


def _observer(cell: Cell, log_dir: str | None, device: str) -> Observer:
    if cell.observer != "ma-lfl-network":
        return load_observer(cell.observer, **_options(cell))
    import torch

    torch.set_num_threads(1)
    return load_observer(
        cell.observer,
        form=cell.form,
        widths=(cell.width,),
        seed=cell.seed,
        device=device,
        **_options(cell),
        log_dir=None if log_dir is None else str(Path(log_dir) / cell.name),
    )


def _options(cell: Cell) -> dict[str, Any]:
    pairs = (own.split("=", 1) for own in cell.options.split())
    return {name: yaml.safe_load(value) for name, value in pairs}


def scores(
    truth: np.ndarray[Any, Any],
    mean: np.ndarray[Any, Any],
    sd: np.ndarray[Any, Any] | None,
    among: np.ndarray[Any, Any],
) -> dict[str, Any] | None:
    """Pearson correlation and 2-sd coverage over some states; None for fewer than three."""
    if among.sum() < 3 or np.ptp(truth[among]) == 0 or np.ptp(mean[among]) == 0:
        return None
    gap = (mean - mean.mean()) - (truth - truth.mean())
    return {
        "n": int(among.sum()),
        "pearson": float(np.corrcoef(mean[among], truth[among])[0, 1]),
        "rmse": float(np.sqrt(np.mean(gap[among] ** 2))),
        "sd": None if sd is None else float(np.sqrt(np.mean(sd[among] ** 2))),
        "coverage_2sd": None if sd is None else float(np.mean(np.abs(gap) < 2 * sd, where=among)),
    }


def _prior(diagnostics: Mapping[str, Any]) -> dict[str, Any]:
    """What was chosen, without the list of states that rewards are interpolated from."""
    said = diagnostics.get("prior")
    chosen = {key: own for key, own in said.items() if key != "states"} if said else {}
    names = ("solver", "rule", "improvement", "noise_variance", "noise_scale", "prior_variance")
    return {**chosen, **{name: diagnostics.get(name) for name in (*names, "explained")}}


GROUPS = ("all", "visited", "visited_later", "never_visited")


def rows_of(cells: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """One row per setting and group of states: means over seeds, agents averaged within a seed."""
    names = ("size", "family", "learner", "episodes", "width", "form", "observer", "options")
    keys = (*names, "n_agents")
    before = {"observer": "ma-lfl-network", "options": "", "n_agents": 2}  # older cells lack them
    kept = [{**before, **cell} for cell in cells]
    settings = sorted({tuple(cell[key] for key in keys) for cell in kept})
    for setting in settings:
        own = [cell for cell in kept if tuple(cell[key] for key in keys) == setting]
        for group in GROUPS if setting[0] > 3 or setting[-1] > 2 else GROUPS[:1]:
            by_seed = {cell["seed"]: [a[group] for a in cell["agents"] if a[group]] for cell in own}
            found = [one for agents in by_seed.values() for one in agents]
            if not found:
                continue
            interval = mean_interval(
                {seed: [one["pearson"] for one in agents] for seed, agents in by_seed.items()}
            )
            covered = [one["coverage_2sd"] for one in found]
            yield {
                **dict(zip(keys, setting, strict=True)),
                "states": group,
                "n_states": round(float(np.mean([one["n"] for one in found]))),
                "seeds": interval.n_seeds,
                "pearson": interval.mean,
                "low": interval.interval and interval.interval[0],
                "high": interval.interval and interval.interval[1],
                "minimum": min(one["pearson"] for one in found),
                "coverage_2sd": None if None in covered else float(np.mean(covered)),
                "seconds": float(np.mean([cell["seconds"] for cell in own])),
            }


def write_table(cells: Sequence[Mapping[str, Any]], root: Path) -> str:
    """Write `table.csv` and `table.md`; returns the text of `table.md`."""
    rows = list(rows_of(cells))
    with (root / "table.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(_shown(row[name]) for name in names) + " |" for row in rows]
    text = "\n".join(lines) + "\n"
    write_bytes(root / "table.md", text.encode())
    return text


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _log_scores(agents: Sequence[Mapping[str, Any]], folder: str) -> None:
    from malfl_algos.networks.logging import tensorboard_log

    with tensorboard_log(folder, run="scores") as log:
        for one in agents:
            for group in GROUPS:
                if log is not None and one[group]:
                    log(f"{one['agent']}/pearson_{group}", 0, one[group]["pearson"])


def _cells(given: argparse.Namespace) -> list[Cell]:
    small = [("exact", given.episodes_small // 10), ("exact", given.episodes_small)]
    small.append(("td", given.episodes_small))
    cells = []
    for seed in given.seeds:
        for family in given.families:
            for learner, episodes in small if "small" in given.studies else []:
                shared = (seed, WIDTHS["small"], given.form, given.observer)
                cells.append(Cell(3, family, learner, episodes, *shared))
            for learner in given.learners if "large" in given.studies else []:
                width = given.width or WIDTHS["large"]
                options = " ".join(given.option)
                observer = (width, given.form, given.observer, options, given.agents)
                cells += [
                    Cell(given.size, family, learner, episodes, seed, *observer)
                    for episodes in given.episodes_large
                ]
    return cells


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output-dir", type=Path, default=Path("networks"))
    parser.add_argument("--studies", nargs="+", choices=("small", "large"), default=["small"])
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(5)))
    parser.add_argument("--form", choices=("bellman", "potentials"), default="bellman")
    parser.add_argument(
        "--observer",
        choices=("ma-lfl-network", "ma-lfl-history", "ma-lfl-bellman"),
        default="ma-lfl-network",
    )
    parser.add_argument(
        "--option",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="options of the observer in the large study",
    )
    parser.add_argument(
        "--learners",
        nargs="+",
        choices=("exact", "td"),
        default=["exact"],
        help="learners of the large study",
    )
    parser.add_argument(
        "--families", nargs="+", choices=(*FAMILIES, RANDOM), default=list(FAMILIES), help="rewards"
    )
    parser.add_argument(
        "--episodes-small", type=int, default=3000, help="episodes per stage of the 3x3 game"
    )
    parser.add_argument("--episodes-large", type=int, nargs="+", default=[30, 300])
    parser.add_argument("--size", type=int, default=8, help="rows and columns of the large board")
    parser.add_argument("--agents", type=int, default=2, help="agents on the large board")
    parser.add_argument("--width", type=int, help="width of the random layer on the large board")
    parser.add_argument("--device", default="cpu", help="of ma-lfl-network (default: cpu)")
    parser.add_argument("--log-dir", help="write TensorBoard logs into this folder")
    parser.add_argument(
        "--tables-only",
        action="store_true",
        help="run nothing, only report",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
