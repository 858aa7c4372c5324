"""Damaged logs are read, or rejected as bad input: there is no other exception."""

from __future__ import annotations

import json
from contextlib import suppress

import numpy as np
import pytest

pytest.importorskip("pyarrow")

import pyarrow
from pyarrow import csv, parquet

from malfl_algos import LearningTrace
from malfl_algos.logs.exported import is_export, trace_of_export
from malfl_algos.logs.files import open_log
from malfl_algos.storage.tables import export_parquet
from malfl_env import InputError

TABLE = {
    "state": [f"room {k % 5}" for k in range(60)],
    "action": [k % 3 for k in range(60)],
    "price": [k % 4 / 2 for k in range(60)],
    "episode": [k // 10 for k in range(60)],
    "step": [k % 10 for k in range(60)],
}
ROLES = {"state": "state", "episode": "episode", "step": "step", "n_stages": 2, "gaps": "split"}
AGENTS = {"x": "action", "y": "price"}


def write(path):
    if path.suffix == ".parquet":
        parquet.write_table(pyarrow.table(TABLE), path)
    elif path.suffix == ".csv":
        csv.write_csv(pyarrow.table(TABLE), path)
    elif path.suffix == ".npz":
        np.savez(path, **{name: np.array(own) for name, own in TABLE.items()})
    else:
        path.write_text("\n".join(map(json.dumps, pyarrow.table(TABLE).to_pylist())))


def damaged(content, rng):
    if rng.random() < 0.2:
        return content[: rng.integers(len(content))]
    bytes_ = np.frombuffer(content, dtype=np.uint8).copy()
    places = rng.integers(0, len(bytes_), rng.choice([1, 2, 5, 20]))
    bytes_[places] = rng.integers(0, 256, len(places))
    return bytes_.tobytes()


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".npz", ".jsonl"])
def test_damaged_files(suffix, tmp_path):
    path, rng = tmp_path / f"log{suffix}", np.random.default_rng(0)
    write(path)
    content = path.read_bytes()
    rejected = 0
    for _ in range(25):
        path.write_bytes(damaged(content, rng))
        try:
            log = open_log(path)
            LearningTrace.from_table(log.read(log.names), actions=AGENTS, **ROLES)
        except InputError:
            rejected += 1
    assert rejected > 12


WRONG = (None, 5, -1, "x", [], {}, [None], [-1], ["x"], [[1]], 1e300, [2**70], True)


def test_metadata_of_an_export_may_hold_anything(tmp_path):
    trace = LearningTrace.from_table(TABLE, actions=AGENTS, **ROLES).with_observations(None)
    export_parquet(trace, tmp_path / "log.parquet")
    table = parquet.read_table(tmp_path / "log.parquet")
    about = json.loads(table.schema.metadata[b"malfl"])
    for key in about:
        for wrong in WRONG:
            changed = table.replace_schema_metadata({"malfl": json.dumps({**about, key: wrong})})
            parquet.write_table(changed, tmp_path / "log.parquet")
            log = open_log(tmp_path / "log.parquet")
            assert is_export(log)
            with suppress(InputError):
                trace_of_export(log)
