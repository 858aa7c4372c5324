"""PPO learners in two games of mpe2, and the rewards that observers recover from them.

`python continuous_games.py --output-dir games`, in this folder, trains three PPO agents per seed in
simple_spread (they want the same) and in simple_adversary (they do not), shows the observers what
they observed and did in every stage, and answers: does a recovered reward follow the ground truth,
do its halves agree, is it believed, and do agents retrained on it earn the ground-truth reward?
Finished parts are kept in files, so the study can be stopped and resumed. It needs the plugin
malfl-sb3 and mpe2.
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
from continuous_learning import Settings
from continuous_observers import OBSERVERS, OPTIONS
from continuous_report import write_report
from continuous_seed import run_seed
from particle_games import GAMES

from malfl_algos.storage.durable import write_json
from malfl_env.errors import InputError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the missing parts, then write the table and the figures. Returns 0; 2 for bad input."""
    parser = _parser()
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    try:
        for game in given.games:
            named = {own.name: getattr(given, own.name) for own in fields(Settings)[1:]}
            settings = Settings(game=game, **named)
            root: Path = given.output_dir / game
            if not given.tables_only:
                _claim(root, json.loads(json.dumps({**asdict(settings), "options": OPTIONS})))
            for seed in [] if given.tables_only else given.seeds:
                run_seed(
                    settings,
                    seed,
                    root / f"seed_{seed}",
                    given.observers,
                    fresh=not given.no_retraining,
                    say=partial(print, f"{game},", flush=True),
                )
        print(write_report(given.output_dir, [game for game in GAMES if game in given.games]))
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
        "--games", nargs="+", choices=list(GAMES), default=list(GAMES), help="(default: both)"
    )
    parser.add_argument(
        "--seeds", nargs="+", type=_seed, default=list(range(100, 105)), help="(default: 100..104)"
    )
    parser.add_argument("--output-dir", type=Path, default=Path("games"), help="(default: games)")
    parser.add_argument(
        "--observers",
        nargs="+",
        choices=list(OBSERVERS),
        default=list(OBSERVERS),
        help="(default: all)",
    )
    parser.add_argument(
        "--no-retraining", action="store_true", help="train no agents on recovered rewards"
    )
    parser.add_argument(
        "--tables-only", action="store_true", help="run nothing, write the table and the figures"
    )
    for own in fields(Settings)[1:]:  # the first is the game
        parser.add_argument(
            f"--{own.name.replace('_', '-')}",
            dest=own.name,
            type=type(own.default),
            default=own.default,
            help=f"{HELP[own.name]} (default: {own.default})",
        )
    return parser


HELP = {
    "stages": "number of stages",
    "timesteps": "steps from which each agent learns between two stages",
    "episodes": "episodes per stage, shown to the observers",
    "held_out": "held-out episodes per stage, for scoring alone",
    "fresh_stages": "length of the retraining, in units of --timesteps",
    "n_steps": "steps per rollout of PPO, over all copies of the game",
    "copies": "games in which agents act side by side while they learn",
    "batch_size": "of PPO",
    "n_epochs": "of PPO",
    "learning_rate": "of PPO",
    "entropy_weight": "of PPO",
    "discount": "of PPO and of the observers",
}


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number >= 0, got {text!r}")
    return int(text)


if __name__ == "__main__":
    raise SystemExit(main())
