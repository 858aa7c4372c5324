"""The arguments of every command of `malfl`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import suppress

__all__ = ["COMMANDS"]


def _whole(text: str) -> int:
    """A whole number, written as in YAML: 010 and 1_0 are rejected there and here."""
    from malfl_algos.storage.yaml_files import parse_yaml  # not needed for --help

    with suppress(ValueError):
        value = parse_yaml(text)
        if type(value) is int:
            return value
    raise argparse.ArgumentTypeError(f"must be a whole number, got {text!r}")


def _add_config(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--config",
        metavar="FILE",
        help="YAML file; keys left out have the paper's settings (default: all of them)",
    )


def _add_counts(command: argparse.ArgumentParser) -> None:
    for name, help_text in (
        ("iterations", "stages of learning (default: 10)"),
        ("episodes", "episodes a stage (default: 3000)"),
        ("episode-length", "steps an episode (default: 1000)"),
    ):
        command.add_argument(f"--{name}", type=_whole, metavar="N", help=help_text)


def _add_plugin_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an option of the plugin, its value in YAML; may be repeated",
    )


def _add_output(command: argparse.ArgumentParser, what: str) -> None:
    command.add_argument("--output-dir", metavar="DIR", required=True, help=f"folder for {what}")
    command.add_argument("--overwrite", action="store_true", help="replace such files there")


def _add_reproduce(command: argparse.ArgumentParser) -> None:
    _add_config(command)
    command.add_argument(
        "--output-dir",
        metavar="DIR",
        default="malfl-results",
        help="run folder (default: malfl-results); a run that is there already is finished: seeds, "
        "families and observers may be added, nothing else may differ",
    )
    command.add_argument(
        "--reward-families",
        nargs="+",
        metavar="NAME",
        help="families to run (default: homogeneous heterogeneous); further ones are defined in "
        "the configuration",
    )
    _add_counts(command)
    command.add_argument(
        "--seeds", nargs="+", type=_whole, metavar="K", help="one run each (default: 0 1 2 3 4)"
    )
    command.add_argument("--learner", metavar="NAME", help="who learns (default: ma-spi)")
    command.add_argument(
        "--observers",
        nargs="+",
        metavar="NAME",
        help="who recover rewards, by plugin name or by label in the configuration (default: "
        "ma-lfl ma-lfl-own-action ma-lfl-state ma-lfl-faithful)",
    )
    command.add_argument(
        "--seat",
        choices=("external", "agent"),
        help="external: policies are estimated; agent: the observer is one of the agents and knows "
        "its own (default: external)",
    )
    command.add_argument(
        "--jobs",
        type=_whole,
        metavar="N",
        help="worker processes (default: one per processor); results do not depend on it",
    )
    command.add_argument(
        "--fast",
        action="store_true",
        help="a smoke test: 4 iterations, 100 episodes of 200 steps, seed 0; goes before the "
        "configuration file, gives way to options",
    )
    command.add_argument(
        "--overwrite", action="store_true", help="start afresh in the folder of a run"
    )


def _add_verify(command: argparse.ArgumentParser) -> None:
    command.add_argument("folder", metavar="OUT", help="folder of malfl reproduce")


def _add_learn(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "name", nargs="?", metavar="NAME", help="the learner (default: the configuration's, ma-spi)"
    )
    _add_config(command)
    _add_output(command, "trace.npz and ground_truth.npz")
    command.add_argument(
        "--reward-family", metavar="NAME", help="(default: the configuration's first, homogeneous)"
    )
    _add_counts(command)
    command.add_argument(
        "--seed", type=_whole, metavar="K", help="(default: the configuration's first, 0)"
    )
    _add_plugin_options(command)


def _add_recover(command: argparse.ArgumentParser) -> None:
    command.add_argument("trace", metavar="TRACE", help="trace.npz of a learner")
    command.add_argument(
        "--observer", metavar="NAME", required=True, help="plugin name, or label in --config"
    )
    _add_config(command)
    _add_output(command, "rewards.npz, diagnostics.json and what else the observer has")
    command.add_argument(
        "--stages",
        type=_whole,
        metavar="N",
        help="recover from the first N stages alone; malfl score tries the others (default: all)",
    )
    command.add_argument(
        "--estimate-dynamics",
        action="store_true",
        help="do not tell the observer the game's dynamics (default: those of the configuration)",
    )
    _add_plugin_options(command)


def _add_score(command: argparse.ArgumentParser) -> None:
    command.add_argument("rewards", metavar="REWARDS", help="rewards.npz of an observer")
    command.add_argument(
        "--ground-truth",
        metavar="FILE",
        help="ground_truth.npz of the learner: for correlation, distance (EPIC, STARC), regret and "
        "calibration, the last from posterior.npz beside REWARDS",
    )
    command.add_argument(
        "--trace",
        metavar="FILE",
        help="trace.npz of the learner: predict stages from those before them, which needs no "
        "truth: stages new to the rewards (malfl recover --stages), else the last",
    )
    command.add_argument(
        "--config",
        metavar="FILE",
        help="YAML file; only joint states that can occur in its game count (default: the paper's)",
    )
    command.add_argument("--json", metavar="FILE", help="write the scores there, too")


def _add_sweep(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "file", metavar="FILE", help="YAML file: `base`, an experiment, and `grid`, over its keys"
    )
    command.add_argument(
        "--output-dir",
        metavar="DIR",
        required=True,
        help="folder for the runs, the tables and the picture; what is there already is kept",
    )
    command.add_argument(
        "--backend",
        choices=("loky", "dask", "ray"),
        default="loky",
        help="loky: processes of this machine; dask, ray: a cluster (default: loky)",
    )
    command.add_argument(
        "--address",
        metavar="ADDRESS",
        help="of the cluster: HOST:PORT, a scheduler file of Dask (.json), or auto for Ray "
        "(default: start a small one on this machine)",
    )
    for name, default, help_text in (
        ("jobs", None, "runs at a time (default: one per processor); results do not depend on it"),
        ("max-runs", 1000, "refuse a grid of more runs (default: 1000)"),
        ("retries", 1, "how often a run that failed is done again (default: 1)"),
        ("connect-timeout", 20, "seconds until a cluster counts as unreachable (default: 20)"),
    ):
        command.add_argument(f"--{name}", type=_whole, metavar="N", default=default, help=help_text)
    command.add_argument(
        "--x", metavar="KEY", help="the picture's horizontal axis (default: the first that varies)"
    )
    command.add_argument(
        "--hue", metavar="KEY", help="the picture's lines (default: the next key that varies)"
    )
    command.add_argument(
        "--measure",
        metavar="NAME",
        default="pearson",
        help="the picture's score, a column of the table (default: pearson)",
    )


def _add_export(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "trace",
        metavar="TRACE",
        help="folder of an observation trace, or trace.npz of a learner that kept its transitions",
    )
    command.add_argument(
        "--format", choices=("minari", "parquet"), required=True, help="needs the extra data"
    )
    command.add_argument(
        "--output", metavar="PATH", required=True, help="file (parquet) or folder (minari), new"
    )
    command.add_argument(
        "--config", metavar="FILE", help="YAML file with the game of a trace.npz (default: paper's)"
    )


def _add_plugins(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "action",
        nargs="?",
        choices=("list", "doctor"),
        default="list",
        help="list (the default), or doctor: load and check each",
    )


COMMANDS: tuple[tuple[str, str, Callable[[argparse.ArgumentParser], None]], ...] = (
    ("reproduce", "Run the paper, or an experiment like it, from end to end.", _add_reproduce),
    ("verify", "Check that a run folder is whole and as it was written.", _add_verify),
    ("learn", "Let a learner learn; keep what may be seen apart from the truth.", _add_learn),
    ("recover", "Recover rewards from a learning trace.", _add_recover),
    ("score", "Judge recovered rewards, with the true ones or without.", _add_score),
    ("sweep", "Run an experiment at every point of a grid, here or on a cluster.", _add_sweep),
    ("export", "Write a trace for other tools: Minari's HDF5, or Parquet.", _add_export),
    ("plugins", "List the learners and observers that are installed.", _add_plugins),
)
"""Name, purpose, and what adds the arguments to a parser."""
