"""The pages of `malfl report`: whole, self-contained, escaped; bad input in one line."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from malfl_algos import RecoveredRewards
from malfl_algos.cli.main import main
from malfl_algos.contract import Source, Verdict
from malfl_algos.storage.origins import write_result
from malfl_algos.storage.results import plain, write_parts, write_source
from malfl_algos.verdict.drawn import EDGES

RUN = Path(__file__).parents[2] / "data" / "run_0.1"
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Texts by element, addresses, and whether all elements are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.addresses: list[str] = []
        self.elements: set[str] = set()
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.add(tag)
        self.addresses += [v for name, v in attributes if name in ("src", "href", "srcset")]
        assert not any(name.startswith("on") for name, _ in attributes)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if self.open and text.strip():
            self.texts.setdefault(self.open[-1], []).append(text.strip())


@pytest.fixture
def result(tmp_path):
    """The folder of a result whose names are hostile."""
    source = Source(
        agents=("alice", "<script>alert(1)</script>"),
        n_actions=(2, 2),
        steps=(40, 60),
        visits=np.array([60, 40, 0]),
        states=("hall", "</table><img src=http://a.example/b>", "attic"),
        actions=(("go", "stay"), ("{{ 7 * 7 }}", "right")),
        observer="tried",
    )
    made = RecoveredRewards(
        rewards={"alice": np.array([0.5, -0.5, 0.0])},
        sd={"alice": np.array([0.25, 0.125, 9.0])},
        diagnostics={"alice": {"rule": "td", "rule_weights": [{"rule": "td", "weight": 0.7}]}},
        verdict=Verdict("do not believe", ("halves <differ>",), {"halves": 0.125}, ("more days",)),
        source=source,
    )
    folder = tmp_path / "recovered"
    write_parts(made, folder)
    write_source(source, folder)
    asked = {"command": "malfl recover 'my <log>.npz' --observer tried", "versions": {"numpy": "2"}}
    write_result(folder, None, verdict=plain(made.verdict.plain()), **asked)
    return folder


def test_the_page_of_a_result(result, tmp_path, capsys):
    assert main(["report", str(result), "--output", str(tmp_path / "page.html")]) == 0
    assert "page.html" in capsys.readouterr().out
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    page = Page(text)
    titles = ["What was asked", "Data", "Verdict: do not believe", "Rewards"]
    titles += ["Estimate: reward of alice", "Model", "Checks before estimation", "Limitations"]
    titles += ["Settings and diagnostics", "Versions", "How to run it again"]
    assert page.texts["h2"] == titles
    assert page.texts["strong"] == ["do not believe"]
    assert page.texts["pre"] == ["malfl recover 'my <log>.npz' \\\n    --observer tried"]
    cells = page.texts["td"]
    hall = cells.index("hall")
    assert cells[hall : hall + 6] == ["hall", "0.500", "0.250", "0.000", "1.000", "60"]
    assert cells[hall + 6] == "</table><img src=http://a.example/b>"
    assert "attic" not in cells
    assert "td: weight 0.70" in page.texts["dd"]
    assert cells[cells.index("halves") + 1] == "0.125"
    assert "2 actions: {{ 7 * 7 }}, right" in page.texts["dd"]
    assert page.texts["summary"] == ["the numbers behind the verdict", "reward of alice"]
    assert text.index("<caption>") < text.index("<thead>")


def test_a_page_loads_nothing_and_runs_nothing(result, tmp_path):
    main(["report", str(result), "--output", str(tmp_path / "page.html")])
    page = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert all(re.match(r"#part-\d+$|data:image/png;base64,", own) for own in page.addresses)
    assert {"script", "iframe", "link", "object", "form"} & page.elements == set()


def test_the_same_files_give_the_same_page(result, tmp_path):
    for name in ("one", "two"):
        main(["report", str(result), "--output", str(tmp_path / name)])
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.slow  # draws four figures
def test_the_page_of_a_run(tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(RUN, folder)
    (folder / "figures").mkdir()
    picture = b"\x89PNG\r\n"
    (folder / "figures" / "policies_x.png").write_bytes(picture)
    assert main(["report", str(folder), "--output", str(tmp_path / "page.html")]) == 0
    page = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    expected = ["What was asked", "Data", "Verdicts", "Scores", "Figures", "Rewards"]
    assert page.texts["h2"] == [*expected, "Settings", "Versions", "How to run it again"]
    assert "3, of 100, 100, 100 steps" in page.texts["dd"]
    cells = page.texts["td"]
    assert cells[:6] == ["homogeneous", "log-policy", "0", "0", "0", "2"]
    scores = cells.index("Pearson r")
    assert cells[scores + 1 : scores + 3] == ["-0.307", "-0.17"]
    assert len(page.texts["figcaption"]) == 5
    (folder / "figures" / "policies_x.png").write_bytes(b"<svg>")
    assert main(["report", str(folder), "--output", str(tmp_path / "other.html")]) == 2


def test_a_result_of_functions_has_a_page(result, tmp_path):
    made = RecoveredRewards(diagnostics={"a": {"rank": 1}}, verdict=Verdict("doubt", ("why",)))
    folder = tmp_path / "functions"
    write_parts(made, folder)
    write_result(folder, None, verdict=plain(made.verdict.plain()))
    assert main(["report", str(folder), "--output", str(tmp_path / "page.html")]) == 0
    page = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert any("functions of observations" in text for text in page.texts["li"])


def test_a_result_that_nobody_judged_says_so(tmp_path):
    """And how to judge it, without the colour of a doubt."""
    folder, output = tmp_path / "unjudged", tmp_path / "page.html"
    RecoveredRewards({"a": np.array([0.5, -0.5])}).save(folder)
    assert main(["report", str(folder), "--output", str(output)]) == 0
    text = output.read_text(encoding="utf-8")
    assert '<div class="verdict open"><strong>not judged yet</strong>' in text
    assert "malfl_algos.judge(result, trace, game=..., " in text
    assert "Verdict: not judged yet" in Page(text).texts["h2"]


def test_bad_input_is_one_line_and_nothing_is_written(result, tmp_path, capsys):
    def told(folder, output="page.html", *more):
        assert main(["report", str(folder), "--output", str(tmp_path / output), *more]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert not (tmp_path / "page.html").exists()
        return line

    assert "no such file or folder" in told(tmp_path / "nowhere")
    assert "neither the folder of a run (run.json) nor of recovered rewards" in told(tmp_path)
    assert "neither the folder of a run" in told(result / "rewards.npz")
    assert "exists: choose another file, or add --overwrite" in told(result, "recovered")
    (result / "rewards.npz").write_bytes(b"x")
    assert "rewards.npz is not the file that" in told(result)
    (result / "result.json").write_text("[]")
    assert "not the record of recovered rewards" in told(result)


def test_an_existing_page_is_kept_unless_told(result, tmp_path, capsys):
    page = tmp_path / "page.html"
    page.write_text("mine")
    assert main(["report", str(result), "--output", str(page)]) == 2
    assert page.read_text() == "mine"
    assert main(["report", str(result), "--output", str(page), "--overwrite"]) == 0
    assert page.read_text().startswith("<!DOCTYPE html>")


def test_figures_of_large_results_stay_readable(tmp_path):
    made = RecoveredRewards({"a": np.arange(5000.0)}, sd={"a": np.ones(5000)})
    replace(made, verdict=Verdict("believe")).save(tmp_path / "large")
    assert main(["report", str(tmp_path / "large"), "--output", str(tmp_path / "page.html")]) == 0
    page = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "200 of 5000 values, from the largest to the smallest" in page.texts["caption"]


def test_a_result_on_a_board_has_maps_arrows_and_the_evidence(tmp_path, capsys):
    rng = np.random.default_rng(0)
    agents, tables = ("agent_0", "agent_1"), {"calibration": np.full((2, len(EDGES) - 1, 3), 40.0)}
    tables |= {"divergence": np.ones(2), "halves": np.ones((2, 2, 16)), "states": np.arange(16)}
    own = Verdict("doubt", arrays=tables)
    made = RecoveredRewards(
        {agent: rng.normal(size=16) for agent in agents},
        sd={agent: np.ones(16) for agent in agents},
        estimated_policies={agent: rng.dirichlet(np.ones(5), (3, 16)) for agent in agents},
        verdict=Verdict("doubt", agents=dict.fromkeys(agents, own)),
        source=Source(agents, (5, 5), (9, 9, 9), visits=np.arange(16)),
    )

    def page(**further):
        folder = tmp_path / "board"
        write_parts(made, folder)
        write_source(made.source, folder)
        write_result(folder, None, verdict=plain(made.verdict.plain()), **further)
        return main(["report", str(folder), "--output", str(tmp_path / "page.html"), "--overwrite"])

    assert page(board={"size": 2}) == 0
    captions = Page((tmp_path / "page.html").read_text(encoding="utf-8")).texts["figcaption"]
    heads = ["Reward of agent_0", "Reward of agent_1", "Maps of each", "agent_0: freq"]
    heads += ["agent_1: freq", "Probabilities of each agent's moves on the board"]
    assert [c.startswith(h) for c, h in zip(captions, heads, strict=True)] == [True] * 6
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert text.count('class="large"') == 2  # maps and arrows have several columns
    assert page() == 0
    captions = Page((tmp_path / "page.html").read_text(encoding="utf-8")).texts["figcaption"]
    assert captions[-1].startswith("Probabilities of each agent's actions")
    for wrong in ({"size": 3}, {"size": 2, "n_agents": 3}, "a:b", {"shape": 2}):
        assert page(board=wrong) == 2
        assert "result.json" in capsys.readouterr().err.splitlines()[-1]
