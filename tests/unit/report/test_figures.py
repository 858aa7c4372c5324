"""The figures of a run: they show the data, and drawing them changes no global state."""

from __future__ import annotations

import csv
import json
import struct
import sys
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib
import numpy as np
import pytest
from interpreter import printed

from malfl_algos.experiments.config import load_config
from malfl_algos.ground_truth import GroundTruth
from malfl_algos.report import write_figures
from malfl_algos.report.figures import FIGURES
from malfl_algos.report.learners import learning_curves
from malfl_algos.report.run_files import open_run
from malfl_algos.report.style import new_figure
from malfl_algos.scores import pearson, spearman
from malfl_algos.soft import log_soft_improvement, soft_evaluation
from malfl_algos.storage.arrays import write_arrays
from malfl_algos.trace import LearningTrace, Stage

N_STAGES = 4


def write_run_folder(
    folder: Path,
    *,
    seeds: Sequence[int] = (3, 4, 5),
    observers: Sequence[str] = ("ma-lfl", "ma-lfl-state"),
    families: Sequence[str] = ("homogeneous", "heterogeneous"),
    further: str = "{}",
    game: str = "{size: 3}",
    joint: bool = True,
) -> Path:
    """A small, valid run folder: exact learners; observers add noise to the ground truth."""
    folder.mkdir(parents=True, exist_ok=True)
    config_path = folder / "config.yaml"
    config_path.write_text(
        f"families: {further}\n"
        f"game: {game}\nreward_families: [{', '.join(families)}]\niterations: {N_STAGES}\n"
        f"seeds: {list(seeds)}\nobservers:\n"
        + "".join(f"- {{label: {name}, name: ma-lfl}}\n" for name in observers)
    )
    games = {family: load_config(config_path).markov_game(family) for family in families}
    results, trend, cross = [], [], []
    for family, env_game in games.items():
        for seed in seeds:
            rng = np.random.default_rng([seed, families.index(family)])
            unit = folder / family / f"seed_{seed}"
            _write_learner(unit / "ma-spi", env_game, rng)
            for level, observer in enumerate(observers, start=1):
                widen = (1, *env_game.n_actions) if joint and level == 1 else (1,)
                recovered = {
                    agent: _noisy(env_game.reward(i), 0.4 * level, widen, rng)
                    for i, agent in enumerate(env_game.agents)
                }
                write_arrays(unit / observer / "rewards.npz", recovered)
                for i, agent in enumerate(env_game.agents):
                    row = {"observer": observer, "seed": seed, "agent": agent}
                    results.append(
                        {"family": family, **row, **_scores(recovered[agent], env_game.reward(i))}
                    )
                    for h in range(2, N_STAGES + 1):
                        early = _noisy(env_game.reward(i), 2.0 * level / h, (1,), rng)
                        scores = _scores(early, env_game.reward(i))
                        trend.append({"family": family, **row, "n_stages": h, **scores})
                    for other, other_game in games.items():
                        pair = {"recovered_family": family, "true_family": other}
                        scores = _scores(recovered[agent], other_game.reward(i))
                        cross.append({**row, **pair, **scores})
    (folder / "summary.json").write_text(json.dumps({"results": results, "aggregate": []}))
    write_csv(folder / "trend.csv", trend)
    write_csv(folder / "cross_correlation.csv", cross)
    return folder


def _write_learner(folder: Path, game: Any, rng: np.random.Generator) -> None:
    policies = [np.full((game.n_states, n), 1.0 / n) for n in game.n_actions]
    stages, played = [], []
    for _ in range(N_STAGES):
        stages.append(Stage(rng.integers(1, 9, (game.n_states, *game.n_actions))))
        played.append(policies)
        policies = [
            np.exp(
                log_soft_improvement(
                    soft_evaluation(game, policies, i, discount=0.9, temperature=3.0)[0],
                    temperature=3.0,
                )
            )
            for i in range(game.n_agents)
        ]
    LearningTrace(tuple(stages)).save(folder / "trace.npz")
    GroundTruth(
        {agent: game.reward(i) for i, agent in enumerate(game.agents)},
        {agent: np.stack([stage[i] for stage in played]) for i, agent in enumerate(game.agents)},
    ).save(folder / "ground_truth.npz")


def _noisy(truth: Any, level: float, widen: tuple[int, ...], rng: np.random.Generator) -> Any:
    table = truth.reshape(-1, *(1,) * (len(widen) - 1)) * np.ones(widen)
    return table + level * truth.std() * rng.normal(size=table.shape)


def _scores(estimate: Any, truth: Any) -> dict[str, float | None]:
    return {
        "pearson": pearson(estimate, truth).value,
        "spearman": spearman(estimate, truth).value,
    }


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows; None becomes an empty field."""
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two families, three seeds and two observers, with its figures drawn."""
    folder = write_run_folder(tmp_path_factory.mktemp("run") / "out")
    write_figures(folder)
    return folder


def png_chunks(content: bytes) -> dict[bytes, bytes]:
    """The chunks of a PNG by type, their checksums verified."""
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    chunks: dict[bytes, bytes] = {}
    position = 8
    while position < len(content):
        (length,) = struct.unpack(">I", content[position : position + 4])
        kind = content[position + 4 : position + 8]
        data = content[position + 8 : position + 8 + length]
        (checksum,) = struct.unpack(">I", content[position + 8 + length : position + 12 + length])
        assert checksum == zlib.crc32(kind + data)
        chunks[kind] = chunks.get(kind, b"") + data
        position += 12 + length
    return chunks


def test_all_figures_are_written_as_png_of_sane_size(run_folder: Path) -> None:
    per_family = ["learning", "policies", "rewards", "truth"]
    figures = sorted((run_folder / "figures").iterdir())
    observers = {kind: ["_ma-lfl", "_ma-lfl-state"] for kind in ("rewards", "truth")}
    assert sorted(path.name for path in figures) == sorted(
        ["correlation.png", "trend.png", "cross_correlation.png"]
        + [
            f"{kind}_{family}{observer}.png"
            for kind in per_family
            for family in ("homogeneous", "heterogeneous")
            for observer in observers.get(kind, [""])
        ]
    )
    for path in figures:
        chunks = png_chunks(path.read_bytes())
        assert set(chunks) <= {b"IHDR", b"pHYs", b"IDAT", b"IEND"}, "no time, no software"
        width, height = struct.unpack(">II", chunks[b"IHDR"][:8])
        assert 800 <= width <= 1600
        assert 400 <= height <= 2000


def test_bytes_depend_on_the_run_alone_and_nothing_global_changes(run_folder: Path) -> None:
    figures = {path: path.read_bytes() for path in (run_folder / "figures").iterdir()}
    with matplotlib.rc_context({"font.size": 30.0, "axes.grid": True, "savefig.dpi": 20.0}):
        settings = matplotlib.rcParams.copy()
        written = write_figures(run_folder)
        assert matplotlib.rcParams.copy() == settings
    assert sorted(written) == sorted(figures)
    assert all(path.read_bytes() == content for path, content in figures.items())


def test_matplotlib_is_imported_when_used_and_pyplot_never(tmp_path: Path) -> None:
    folder = write_run_folder(
        tmp_path / "out", seeds=[0], observers=["x"], families=["homogeneous"]
    )
    output = printed(
        "import sys; from pathlib import Path; from malfl_algos.report import write_figures",
        "print('matplotlib' in sys.modules)",
        f"print(len(write_figures(Path({str(folder)!r}))))",
        "print('matplotlib.pyplot' in sys.modules)",
    )
    assert output.split() == ["False", "6", "False"]


def test_a_new_figure_is_one_function_and_one_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_run_folder(
        tmp_path / "out", seeds=[0], observers=["x"], families=["homogeneous"]
    )
    module = ModuleType("malfl_algos.report.seeds")
    vars(module)["draw"] = lambda run, family: new_figure(len(run.seeds), len(family))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    entry = FIGURES[0]._replace(function="seeds.draw", stem="seeds", each=("families",))
    monkeypatch.setattr("malfl_algos.report.figures.FIGURES", (entry,))
    (path,) = write_figures(folder)
    assert path.name == "seeds_homogeneous.png"


def test_null_correlations_and_missing_optional_files(tmp_path: Path) -> None:
    folder = write_run_folder(tmp_path / "out", seeds=[0], families=["homogeneous"])
    summary = json.loads((folder / "summary.json").read_text())
    for row in summary["results"]:
        if row["observer"] == "ma-lfl":
            row["pearson"] = row["spearman"] = None
    (folder / "summary.json").write_text(json.dumps(summary))
    with (folder / "cross_correlation.csv").open(newline="") as stream:
        rows = [{**row, "pearson": "", "spearman": ""} for row in csv.DictReader(stream)]
    write_csv(folder / "cross_correlation.csv", rows)
    (folder / "trend.csv").unlink()
    (folder / "homogeneous" / "seed_0" / "ma-lfl" / "rewards.npz").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        names = {path.name for path in write_figures(folder)}
    assert names == {
        "correlation.png",
        "learning_homogeneous.png",
        "policies_homogeneous.png",
        "rewards_homogeneous_ma-lfl-state.png",
        "truth_homogeneous_ma-lfl-state.png",
    }


def test_walls_and_three_agents(tmp_path: Path) -> None:
    game = "{size: 3, n_agents: 3, walls: [[1, 1]]}"
    folder = write_run_folder(
        tmp_path / "out",
        seeds=[0],
        observers=["x"],
        families=["homogeneous"],
        game=game,
        joint=False,
    )
    assert len(write_figures(folder)) == 6


def test_learning_curves_are_returns_and_visit_weighted_entropies(run_folder: Path) -> None:
    run = open_run(run_folder)
    returns, entropies = learning_curves(run, "heterogeneous", "4")
    learner = run_folder / "heterogeneous" / "seed_4" / "ma-spi"
    truth, trace = (
        GroundTruth.load(learner / "ground_truth.npz"),
        LearningTrace.load(learner / "trace.npz"),
    )
    game = run.config.markov_game("heterogeneous")
    assert returns.shape == entropies.shape == (2, N_STAGES)
    first, second = (truth.joint_policies[agent][2] for agent in ("agent_0", "agent_1"))
    joint = first[:, :, None] * second[:, None, :]
    occupied, total = np.eye(81)[game.start], 0.0
    for step in range(400):
        total += 0.9**step * float(occupied @ game.reward(1))
        occupied = np.bincount(
            game.next_states.ravel(), (occupied[:, None, None] * joint).ravel(), minlength=81
        )
    np.testing.assert_allclose(returns[1, 2], total, rtol=1e-9)
    visits = trace.stages[2].state_counts
    per_state = -(first * np.log(first)).sum(axis=1)
    np.testing.assert_allclose(entropies[0, 2], (visits * per_state).sum() / visits.sum())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("summary.json", None, "summary.json: no such file"),
        ("summary.json", b"{", "summary.json: not the summary of a run"),
        ("summary.json", b'{"results": []}', "summary.json: it has no results"),
        ("trend.csv", b"family,observer\n", "trend.csv: the column 'n_stages' is missing"),
        ("homogeneous/seed_0/x/rewards.npz", b"cut", "rewards.npz: not a readable npz"),
        ("homogeneous/seed_0/ma-spi/ground_truth.npz", None, "seed_0: no learner's folder"),
        ("homogeneous/seed_0/ma-spi/trace.npz", b"cut", "trace.npz: not a readable learning trace"),
    ],
)
def test_a_damaged_run_folder_is_named(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    folder = write_run_folder(
        tmp_path / "out", seeds=[0], observers=["x"], families=["homogeneous"]
    )
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        write_figures(folder)
