"""A record of a run that names files elsewhere is refused: nothing outside is read or removed."""

from __future__ import annotations

from pathlib import Path

import pytest

from malfl_algos.experiments.config import ExperimentConfig, to_mapping
from malfl_algos.experiments.folder import open_run
from malfl_algos.experiments.records import DamagedRecord, write_record
from malfl_algos.experiments.verification import verify
from malfl_algos.storage.yaml_files import yaml_text

OUTSIDE = ("figures/../../x", "../x", "/tmp/x", "figures\\..\\x", "figures/./x", "figures//x")


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("with_config", [True, False])
def test_files_elsewhere_are_refused(tmp_path: Path, name: str, with_config: bool) -> None:
    root, config = tmp_path / "run", ExperimentConfig()
    root.mkdir()
    (tmp_path / "x").write_text("mine")
    record = {
        "configuration": to_mapping(config),
        "files": {name: "0" * 64},
        "parts": {},
        "wall_seconds": {},
        "earlier_versions": [],
        "versions": {},
    }
    write_record(root, record)
    if with_config:
        (root / "config.yaml").write_text(yaml_text(to_mapping(config)))
    assert any("must lie in its folder" in fault for fault in verify(root).faults)
    with pytest.raises(DamagedRecord, match="must lie in its folder"):
        open_run(root, config, overwrite=False)
    if with_config:
        folder = open_run(root, config, overwrite=True)
        assert folder.files == {}
        folder.begin([])
    else:
        with pytest.raises(DamagedRecord, match="nor is the configuration"):
            open_run(root, config, overwrite=True)
    assert (tmp_path / "x").read_text() == "mine"
