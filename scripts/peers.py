"""Our observers beside other authors' code on the same traces: `python scripts/peers.py`.

Three tasks: LOGEL's grid with one policy-gradient learner, and the paper's 3 x 3 game in both of
its families. Every method gets the same trace of a seed, and its reward is correlated with the
ground truth of all states that can be reached. Seconds are processor time of the recovery alone, on
one thread: neither imports nor compilation are included.

Peers run in environments of their own, which this project does not depend on:

    python -m venv peers/imitation
    peers/imitation/bin/pip install imitation==1.0.1 "setuptools<81"
    python -m venv peers/econirl
    peers/econirl/bin/pip install econirl==0.1.1
    git clone https://github.com/gioramponi/LOGEL peers/code/LOGEL
    git -C peers/code/LOGEL checkout 8314dc8
    cd peers/code && git clone https://github.com/melodiCyb/multiagent-learning-from-learners
    git -C multiagent-learning-from-learners checkout fbdfe41

`--peer-code` names the folder of the checkouts, which need torch and scipy: imitation's environment
has both. A peer without its code or its interpreter is left out, and the table says so. Rows that
are in the folder already are not measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from logel_grid import colour_features
from peers_plan import METHODS, TASKS, config_of_task
from peers_run import PEERS

from malfl_algos.experiments.cell import Learned, learn, observe
from malfl_algos.experiments.config import PluginConfig
from malfl_algos.experiments.games import reachable_states
from malfl_algos.scores.agreement import pearson
from malfl_algos.scores.means import MeanInterval, mean_of_rows
from malfl_algos.storage.durable import write_bytes, write_json
from malfl_algos.work.threads import one_blas_thread

__all__ = ["handed_over", "main", "measured", "table"]

WARM_STAGES = 3
"""Stages of the recovery that is made before an observer's first one is timed."""
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}


def measured(learned: Learned, plugin: PluginConfig) -> tuple[float, dict[str, Any]]:
    """Processor seconds of a recovery by one of our observers, and its rewards by agent."""
    few = replace(learned, trace=learned.trace.first(WARM_STAGES))
    with one_blas_thread():
        observe(few, plugin, judged=False)
        started = time.process_time()
        found = observe(learned, plugin, judged=False)
        seconds = time.process_time() - started
    return seconds, dict(found.recovered[""].rewards)


def peers_row(
    name: str, data: Mapping[str, Any], *, code: Path, interpreter: str
) -> tuple[float, Any, str]:
    """Processor seconds of a peer, its reward, and the versions that it ran with.

    Raises:
        RuntimeError: with the end of its output, if it failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        given, result = Path(folder) / "data.npz", Path(folder) / "result.npz"
        np.savez(given, **data)
        script = Path(__file__).with_name("peers_run.py")
        command = [interpreter, str(script), name, str(code), str(given), str(result)]
        done = subprocess.run(
            command, env=os.environ | ONE_THREAD, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{name} failed:\n{done.stderr[-2000:]}")
        with np.load(result, allow_pickle=False) as found:
            return float(found["seconds"]), found["reward"], str(found["versions"])


def handed_over(learned: Learned) -> dict[str, Any]:
    """The trace, and what is known beside it, as `peers_run` reads it."""
    game, trace = learned.game, learned.trace
    policies = learned.truth.joint_policies
    data: dict[str, Any] = {"discount": learned.config.discount, "seed": learned.seed}
    if game.n_agents == 2:
        counts = np.stack([stage.counts for stage in trace.stages])
        return data | {"counts": counts, **_numbered("policies", policies)}
    length, taken = learned.config.episode_length, []
    for stage in trace.stages:
        steps = stage.transitions
        assert steps is not None
        assert steps.states is not None
        taken.append(np.column_stack([steps.states, steps.joint_actions[:, 0]]))
    return data | {
        "steps": np.stack(taken).astype(np.int64).reshape(len(taken), -1, length, 2),
        "features": colour_features(),
        "next_states": game.next_states,
    }


def _numbered(name: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{name}_{number}": own for number, own in enumerate(arrays.values())}


def rows_of(
    name: str, seed: int, methods: Sequence[str], root: Path, given: argparse.Namespace
) -> None:
    """Measure the methods of a task that the folder lacks, one file of rows for each."""
    missing = [method for method in methods if not _file(root, name, seed, method).exists()]
    if not missing:
        return
    config, learner = config_of_task(name, seed)
    keep = learner is not None
    learned = learn(config, keep_transitions=keep, learner=learner)
    states = reachable_states(learned.game)
    for method in missing:
        if method in PEERS:
            python = given.python.get(_environment(method), sys.executable)
            seconds, reward, versions = peers_row(
                method, handed_over(learned), code=given.peer_code, interpreter=python
            )
            several = learned.game.n_agents > 1
            rewards = list(reward) if several else [reward]
        else:
            plugin = next(own for own in config.observers if own.label == method)
            seconds, found = measured(learned, plugin)
            rewards, versions = [found[agent] for agent in learned.game.agents], ""
        rows = [
            {
                "task": name,
                "seed": seed,
                "method": method,
                "agent": agent,
                "seconds": seconds,
                "pearson": pearson(reward, learned.game.reward(index), states=states).value,
                "versions": versions,
            }
            for index, (agent, reward) in enumerate(zip(learned.game.agents, rewards, strict=True))
        ]
        write_json(_file(root, name, seed, method), {"rows": rows})
        print(f"{name}, seed {seed}, {method}: {seconds:.2f} s", file=sys.stderr, flush=True)


def _file(root: Path, name: str, seed: int, method: str) -> Path:
    return root / "rows" / name / method / f"seed_{seed}.json"


def table(name: str, rows: Sequence[Mapping[str, Any]], left_out: Sequence[str]) -> str:
    """The table of one task in Markdown."""
    task = TASKS[name]
    own = {method: [row for row in rows if row["method"] == method] for method in METHODS}
    first = {row["seed"]: row["seconds"] for row in own[task.ours[0]]}
    lines = [
        f"| method | seconds | Pearson r | seconds / `{task.ours[0]}` | versions |",
        "|---|---|---|---|---|",
    ]
    for method, found in own.items():
        if found:
            ratios = [
                {**row, "ratio": row["seconds"] / first[row["seed"]]}
                for row in found
                if row["seed"] in first
            ]
            shown = [
                _spread(mean_of_rows(found, "seconds"), 3),
                _spread(mean_of_rows(found, "pearson"), 3),
                _spread(mean_of_rows(ratios, "ratio"), 2),
                found[0]["versions"],
            ]
            lines.append(f"| `{method}`: {METHODS[method]} | {' | '.join(shown)} |")
        elif method in left_out:
            lines.append(f"| `{method}`: {METHODS[method]} | not measured here | | | |")
    return f"## {task.title}\n\n" + "\n".join(lines)


def _spread(mean: MeanInterval, digits: int) -> str:
    if mean.mean is None:
        return ""
    ends = mean.interval
    digits = digits if abs(mean.mean) < 10 else 1
    spread = f" [{ends[0]:.{digits}f}, {ends[1]:.{digits}f}]" if ends else ""
    return f"{mean.mean:.{digits}f}{spread}"


def _absent(method: str, given: argparse.Namespace) -> bool:
    """Whether a peer lacks its code or its interpreter."""
    if method.endswith("-own-code"):
        folder = {"ma-lfl-own-code": "multiagent-learning-from-learners"}.get(method, "LOGEL")
        return given.peer_code is None or not (given.peer_code / folder).is_dir()
    return _environment(method) not in given.python


def _environment(method: str) -> str:
    """The name of a peer's environment."""
    return "torch" if method.endswith("-own-code") else method.split("-")[0]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what is missing and write the tables; returns 0, or 2 for bad input."""
    parser = _parser()
    given = parser.parse_args(argv)
    given.python = dict(given.python)
    for name, path in given.python.items():
        if not Path(path).is_file():
            parser.error(f"--python {name}={path}: no such interpreter")
    seeds = sorted(set(given.seeds))
    left_out = [method for method in PEERS if _absent(method, given)]
    parts = []
    for name in given.tasks:
        task = TASKS[name]
        chosen = [one for one in (*task.ours, *task.peers) if one in given.methods]
        for seed in seeds:
            present = [method for method in chosen if method not in left_out]
            rows_of(name, seed, present, given.output_dir, given)
        rows = [
            row
            for method in chosen
            for seed in seeds
            if _file(given.output_dir, name, seed, method).exists()
            for row in json.loads(_file(given.output_dir, name, seed, method).read_bytes())["rows"]
        ]
        parts.append(table(name, rows, [one for one in chosen if one in left_out]))
    head = (
        f"Seeds {', '.join(map(str, seeds))}; mean over seeds (agents averaged within a seed) with "
        "the 95 % Student t interval; processor seconds of one thread."
    )
    text = "\n\n".join([head, *parts]) + "\n"
    write_bytes(given.output_dir / "peers.md", text.encode())
    print(text)
    return 0


def _parser() -> argparse.ArgumentParser:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument(
        "--methods", nargs="+", choices=list(METHODS), default=list(METHODS), metavar="NAME"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[100, 101, 102])
    parser.add_argument("--output-dir", type=Path, default=Path("peers"), metavar="DIR")
    parser.add_argument("--peer-code", type=Path, metavar="DIR", help="folder of the checkouts")
    parser.add_argument(
        "--python",
        nargs="+",
        type=_interpreter,
        default=[],
        metavar="NAME=PATH",
        help="interpreters with the packages of imitation and econirl, and torch for the code in "
        "--peer-code (torch: default is this interpreter)",
    )
    return parser


def _interpreter(text: str) -> tuple[str, str]:
    name, found, path = text.partition("=")
    if not (name and found and path):
        raise argparse.ArgumentTypeError(f"must be NAME=PATH of an interpreter, got {text!r}")
    return name, path


if __name__ == "__main__":
    sys.exit(main())
