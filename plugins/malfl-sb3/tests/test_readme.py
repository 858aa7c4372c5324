"""The examples of the README run as they stand."""

import re
from pathlib import Path

import pytest
from sb3_games import learner_threads


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_examples_run(capsys):
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(blocks) == 5
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "{'agent_0': 1024, 'agent_1': 1000, 'agent_2': 1000}"
    assert [line.split()[0] for line in lines[-5:-2]] == ["10000"] * 3
    assert lines[-2] == "2 (500, 18)"
    assert lines[-1].count("500") == 2
    assert learner_threads() == []
