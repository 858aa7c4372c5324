"""Whether rewards, ground truth, trace and configuration belong to one run, by their hashes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from malfl_algos.ground_truth import GroundTruth
from malfl_algos.storage.durable import file_checksum
from malfl_algos.storage.origins import RESULT_NAME, Origin, game_hash, read_result
from malfl_env import MarkovGame
from malfl_env.errors import InputError

__all__ = ["check_stages", "known_origins", "settings_fault"]

_OF_A_RESULT = ("posterior.npz", "diagnostics.json")
_ADVICE = "give the files of one run, or add --allow-unrelated"


def known_origins(
    rewards: Path, ground_truth: Path | None, truth: GroundTruth | None, *, related: bool
) -> tuple[dict[str, Origin], str]:
    """The origins of rewards and ground truth by path, and a note if one of them is not known.

    Args:
        rewards: path of recovered rewards; `result.json` beside it holds their origin.
        ground_truth, truth: path and content of the ground truth.
        related: reject files beside the rewards that are not of the same result.

    Raises:
        InputError: naming the file that is damaged or of another result.
    """
    origins, unknown = {}, []
    record = read_result(rewards.with_name(RESULT_NAME))
    if record is None:
        unknown.append(f"{rewards} (it has no {RESULT_NAME} beside it)")
    else:
        with_name = rewards.with_name
        for path in (rewards, *(with_name(name) for name in _OF_A_RESULT)):
            told = record["files"].get(path.name)
            if related and path.exists() and file_checksum(path) != told:
                raise InputError(
                    f"{path} is not the file that {with_name(RESULT_NAME)} describes: it was "
                    f"changed, or belongs to another result; recover again, or {_ADVICE}"
                )
        if record.get("made_from", 0) is None:
            unknown.append(f"{rewards} (it was saved in Python, by RecoveredRewards.save)")
        else:
            origins[str(rewards)] = _origin(with_name(RESULT_NAME), record.get("made_from"))
    if truth is not None and truth.origin is None:
        unknown.append(f"{ground_truth} (malfl 0.1 wrote it, or it was made by hand)")
    elif truth is not None:
        origins[str(ground_truth)] = _origin(ground_truth, truth.origin)
    note = "" if not unknown else f"not checked whether it is of the same run: {unknown[0]}"
    return origins, note


def check_stages(origins: Mapping[str, Origin]) -> None:
    """Reject files that were made from different stages; one may be made from the first only.

    Raises:
        InputError: naming two files and the first stage that differs.
    """
    paths = list(origins)
    for first, path in enumerate(paths):
        for other in paths[first + 1 :]:
            pairs = zip(origins[path].stages, origins[other].stages, strict=False)
            for number, (one, two) in enumerate(pairs):
                if one != two:
                    raise InputError(
                        f"{path} and {other} are of different runs: their data of stage {number} "
                        f"differ; {_ADVICE}"
                    )


def settings_fault(
    origins: Mapping[str, Origin],
    game: MarkovGame | None,
    discount: float | None,
    temperature: float | None,
) -> str:
    """How a configuration differs from the settings of a file; empty if it does not."""
    own = {
        "game": None if game is None else game_hash(game),
        "discount": discount,
        "temperature": temperature,
    }
    for path, origin in origins.items():
        for key, value in own.items():
            found = getattr(origin, key)
            if None not in (found, value) and found != value:
                values = "" if key == "game" else f": {found} in the file, {value} configured"
                return f"{path} is of a run with another {key} than the configuration{values}; " + (
                    _ADVICE
                )
    return ""


def _origin(path: Path | None, given: object) -> Origin:
    try:
        return Origin.from_mapping(given)
    except InputError as fault:
        raise InputError(f"{path}: damaged: {fault}") from fault
