"""PPO learners on simple spread, and the rewards that a network observer recovers from them.

`python simple_spread.py --output-dir spread`, in this folder, trains three PPO agents per seed,
shows the observer what they observed and did in every stage, and answers three questions: does the
recovered reward follow the ground truth, does it predict the next stage, and do retrained agents
that learn from it earn the ground-truth reward? Finished parts are kept in files, so the study can
be stopped and resumed. It needs the plugin malfl-sb3 and mpe2.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Any

import torch
from simple_spread_learning import Settings
from simple_spread_observers import OPTIONS, network_observer
from simple_spread_report import write_report
from simple_spread_seed import run_seed

from malfl_algos.storage.durable import write_json
from malfl_env.errors import InputError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the missing parts, then write the table and the figures. Returns 0; 2 for bad input."""
    parser = _parser()
    given = parser.parse_args(argv)
    root: Path = given.output_dir
    torch.set_num_threads(1)
    try:
        settings = Settings(**{own.name: getattr(given, own.name) for own in fields(Settings)})
        settings.learner(episodes=settings.episodes)  # rejects options that do not fit
        observers = [network_observer(kind, given.options) for kind in given.improvements]
        if not given.tables_only:
            options = json.loads(json.dumps({**OPTIONS, **given.options}))
            _claim(root, {**asdict(settings), "options": options})
            for seed in given.seeds:
                run_seed(
                    settings,
                    seed,
                    root / f"seed_{seed}",
                    observers,
                    say=partial(print, flush=True),
                )
        print(write_report(root))
    except ValueError as fault:
        parser.error(str(fault))
    return 0


def _claim(root: Path, wanted: dict[str, Any]) -> None:
    """Reject a folder that holds a study with other settings."""
    path = root / "settings.json"
    if not path.exists():
        root.mkdir(parents=True, exist_ok=True)
        write_json(path, wanted)
        return
    found = json.loads(path.read_text(encoding="utf-8"))
    for name, value in wanted.items():
        if found.get(name) != value:
            raise InputError(
                f"{root} holds a study with {name} {found.get(name)}, not {value}; choose another "
                "--output-dir, or the same settings"
            )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--seeds", nargs="+", type=_seed, default=list(range(100, 105)), help="(default: 100..104)"
    )
    parser.add_argument("--output-dir", type=Path, default=Path("spread"), help="(default: spread)")
    parser.add_argument(
        "--improvements",
        nargs="+",
        choices=["proximal", "soft"],
        default=["proximal"],
        help="assumed improvement of the learners (default: proximal)",
    )
    parser.add_argument(
        "--options",
        type=_options,
        default={},
        metavar="JSON",
        help=f"options of the observer, added to or in place of {OPTIONS}",
    )
    parser.add_argument(
        "--tables-only", action="store_true", help="run nothing, write the table and the figures"
    )
    for own in fields(Settings):
        kind = type(own.default)
        parser.add_argument(
            f"--{own.name.replace('_', '-')}",
            type=kind,
            default=own.default,
            help=f"{HELP[own.name]} (default: {own.default})",
        )
    return parser


HELP = {
    "stages": "number of stages shown to the observer; one more is predicted",
    "timesteps": "steps from which each agent learns between two stages",
    "episodes": "episodes per stage, shown to the observer",
    "held_out": "held-out episodes per stage, for scoring alone",
    "fresh_stages": "length of the retraining, in units of --timesteps",
    "curve_episodes": "episodes that measure retrained agents while they learn",
    "n_steps": "steps per rollout of PPO",
    "batch_size": "of PPO",
    "n_epochs": "of PPO",
    "learning_rate": "of PPO",
    "entropy_weight": "of PPO",
    "discount": "of PPO and of the observer",
}


def _options(text: str) -> dict[str, Any]:
    try:
        options = json.loads(text)
    except ValueError as fault:
        raise argparse.ArgumentTypeError(f"must be JSON, got {text!r}") from fault
    if not isinstance(options, dict):
        raise argparse.ArgumentTypeError(f"must be a JSON mapping, got {text!r}")
    return options


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number >= 0, got {text!r}")
    return int(text)


if __name__ == "__main__":
    raise SystemExit(main())
