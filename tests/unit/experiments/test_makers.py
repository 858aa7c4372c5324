"""Each unit of a run records its plugin, and a resumed run compares it with the installed one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fake_plugins import install

from malfl_algos.cli.main import main
from malfl_algos.experiments.records import read_record, write_record

pytestmark = pytest.mark.usefixtures("fakes_in_an_empty_folder")
RUN = ["reproduce", "--learner", "fake", "--observers", "counting", "--iterations", "3"]
RUN += ["--reward-families", "homogeneous", "--output-dir", "out", "--jobs", "1", "--seeds"]


def _plugins() -> dict[str, str]:
    parts = json.loads(Path("out/run.json").read_text())["parts"]
    return {
        name: f"{own['plugin']['distribution']} {own['plugin']['version']}"
        for name, own in parts.items()
        if name.startswith("homogeneous")
    }


def test_a_plugin_that_was_upgraded_is_not_named_for_units_made_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*RUN, "0"]) == 0
    install(tmp_path / "newer", monkeypatch, version="1.3")
    capsys.readouterr()
    assert main([*RUN, "0", "1"]) == 0
    err = capsys.readouterr().err
    for kind, label in (("learner", "fake"), ("observer", "counting")):
        told = f"{kind} {label!r}: 1 unit(s) were made with fakes 1.2, 1.3 is installed"
        assert told in err
        assert _plugins()[f"homogeneous/seed_0/{label}"] == "fakes 1.2"
        assert _plugins()[f"homogeneous/seed_1/{label}"] == "fakes 1.3"
    result = json.loads(Path("out/homogeneous/seed_1/counting/result.json").read_text())
    assert result["observer"]["version"] == "1.3"


@pytest.mark.parametrize("recorded", ["by unit", "by run"])
def test_a_plugin_of_another_distribution_does_not_continue_a_run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    recorded: str,
) -> None:
    assert main([*RUN, "0"]) == 0
    if recorded == "by run":  # as version 0.1 wrote it
        content = read_record(Path("out"))
        for part in content["parts"].values():
            part.pop("plugin", None)
        del content["format"], content["version"]
        write_record(Path("out"), content)
    before = Path("out/run.json").read_bytes()
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path / "work")
    install(tmp_path / "other", monkeypatch, name="rivals")
    capsys.readouterr()
    assert main([*RUN, "0", "1"]) == 2
    err = capsys.readouterr().err
    assert (
        "homogeneous/seed_0/fake was made by 'fakes:fake', but 'fake' is now 'rivals:fake'" in err
    )
    assert Path("out/run.json").read_bytes() == before
