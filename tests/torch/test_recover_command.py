"""`malfl recover` on a trace with observations: the rewards come back as functions."""

from __future__ import annotations

import json

import numpy as np
from observer_cases import in_a_box

from malfl_algos.cli.main import main
from malfl_algos.networks.ranking import RankedRewards
from malfl_algos.networks.recovered_functions import RecoveredFunctions


def test_rewards_of_a_trace_with_observations_are_functions(tmp_path, capsys):
    trace = in_a_box()
    trace.save(tmp_path / "trace")
    options = [
        f"--option={text}" for text in ("widths=[8]", "ensemble=1", "hidden=[8]", "epochs=2")
    ]
    out = tmp_path / "out"
    recover = ["recover", str(tmp_path / "trace"), "--output-dir", str(out), "--observer"]
    assert main([*recover, "ma-lfl-network", *options]) == 0
    rewards, verdict = capsys.readouterr().out.splitlines()[-2:]
    assert rewards.endswith(": rewards of agent_0, agent_1")
    assert verdict.startswith("verdict: doubt")
    assert sorted(path.name for path in out.iterdir()) == [
        "diagnostics.json",
        "result.json",
        "reward_functions.npz",
        "source.npz",
    ]
    assert json.loads((out / "diagnostics.json").read_text())["agent_0"]["n_stages"] == 4
    assert main(["report", str(out), "--output", str(tmp_path / "page.html")]) == 0
    assert "functions of observations" in (tmp_path / "page.html").read_text()
    found = RecoveredFunctions.load(out / "reward_functions.npz")
    assert len(repr(found).splitlines()) == 3
    steps = trace.stages[0].transitions
    values = found.reward("agent_0", steps.observations["agent_0"], steps.joint_actions)
    assert values.shape == (steps.n_steps,)
    assert np.all(np.isfinite(values))


def test_rewards_by_ranking_are_functions_too(tmp_path, capsys):
    trace = in_a_box()
    trace.save(tmp_path / "trace")
    out = tmp_path / "out"
    recover = ["recover", str(tmp_path / "trace"), "--output-dir", str(out)]
    assert main([*recover, "--observer", "trex", "--option=pairs=200"]) == 0
    capsys.readouterr()
    found = RankedRewards.load(out / "reward_functions.npz")
    steps = trace.stages[0].transitions
    values = found.reward("agent_1", steps.observations["agent_1"], steps.joint_actions)
    assert values.shape == (steps.n_steps,)
    assert found.diagnostics["agent_1"]["n_stages"] == 4


def test_an_observer_of_tables_rejects_it_in_one_line(tmp_path, capsys):
    in_a_box().save(tmp_path / "trace")
    arguments = [str(tmp_path / "trace"), "--observer", "ma-lfl-state"]
    assert main(["recover", *arguments, "--output-dir", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "tabular" in line
    assert not (tmp_path / "out").exists()
