"""A recovered result as a person reads it: summary, HTML, tables, draws, figure."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from matplotlib.text import Text

from malfl_algos import LearningTrace, RecoveredRewards, Stage
from malfl_algos.contract import Problem, Source, Verdict
from malfl_algos.observers.log_policy import LogPolicy
from malfl_algos.report.frames import columns_of, draws_of
from malfl_algos.report.result_sections import sections_of
from malfl_algos.report.values import cut_to, values_of
from malfl_env.errors import InputError

STATES = (("hall", "door"), ("hall", "<b>"), ("yard", "$x_{$"))
COUNTS = np.array([[[3, 1], [0, 2]], [[0, 0], [0, 0]], [[5, 4], [3, 2]]])


def trace(**names: Any) -> LearningTrace:
    """Two stages of 20 steps; the middle state is never visited."""
    given = {
        "agents": ("alice", "bob"),
        "states": STATES,
        "actions": (("go", "stay"), ("left", "right")),
        "notes": ("stages: every 2 days",),
    }
    return LearningTrace((Stage(COUNTS), Stage(COUNTS + COUNTS)), **{**given, **names})


def result(**parts: Any) -> RecoveredRewards:
    """Alice's reward is of the state, Bob's of the state and his own action."""
    bob = np.zeros((3, 2, 2)) + np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])[:, None, :]
    given = {
        "rewards": {"alice": np.array([0.5, 0.0, -0.25]), "bob": bob},
        "sd": {"alice": np.array([0.1, 9.0, 0.2]), "bob": np.ones((3, 2, 2))},
        "diagnostics": {
            agent: {
                "rule": "td",
                "rule_weights": [
                    {"rule": "td", "improvement": 0.0, "discount": 0.9, "weight": 0.75},
                    {"rule": "exact", "improvement": 0.0, "discount": 0.9, "weight": 0.25},
                ],
            }
            for agent in ("alice", "bob")
        },
        "verdict": Verdict("believe", ("all is <well>",)),
        "source": Source.of(Problem(trace(), None, 0.9, None), LogPolicy()),
    }
    return RecoveredRewards(**{**given, **parts})


def test_observers_say_what_the_rewards_are_from():
    found = LogPolicy().recover(trace(), game=None, discount=0.9, temperature=2.0)
    assert found.source.agents == ("alice", "bob")
    assert found.source.state_name(2) == "yard,$x_{$"
    assert found.source.action_name(1, 0) == "left"
    assert (found.source.observer, found.source.temperature) == ("LogPolicy", 2.0)
    assert found.source.steps == (20, 40)
    np.testing.assert_array_equal(found.source.visits, [18, 0, 42])
    np.testing.assert_array_equal(found.visited, [True, False, True])


@pytest.mark.parametrize(
    ("own", "told"),
    [
        ({"rule": "td", "searches": {}}, "0.1 (assumed)"),
        ({"rule": "td", "searches": {"step_size": {"0.1": 1.0}}}, "0.1 (chosen by the evidence)"),
        ({"rule": "exact"}, None),
        ({"rule": "policy-gradient"}, None),
    ],
)
def test_a_step_size_is_told_of_rules_that_have_one(own, told):
    made = result(diagnostics={"alice": {**own, "step_size": 0.1}})
    facts = [fact for part in sections_of(made) for fact in part.facts]
    assert [text for name, text in facts if name == "step size"] == [told] * (told is not None)


def test_the_summary_names_the_observer_as_the_command_line_does():
    assert "observer: log-policy" in result().summary()
    own = replace(result().source, observer="Mine")
    assert "observer: Mine" in result(source=own).summary()


def test_a_result_made_by_hand_has_no_source_and_still_a_summary():
    plain = RecoveredRewards({"a": np.array([1.0, 2.0])})
    assert plain.visited is None
    assert "not known" in plain.summary()
    assert "no standard deviations" in plain.summary()


def test_repr_is_three_lines_whatever_the_size():
    big = RecoveredRewards(
        {f"agent_{index}": np.zeros(9999) for index in range(99)},
        verdict=Verdict("doubt", ("x" * 999,)),
    )
    for shown in (repr(big), repr(result())):
        assert len(shown.splitlines()) == 3
        assert len(shown) < 600
    assert "alice, bob: 3 joint states, 2 stages\nverdict: believe" in repr(result())


def test_summary_has_every_section_in_order_and_the_names():
    text = result().summary()
    titles = ["Data", "Model", "Checks before estimation", "Estimate: reward of alice"]
    titles += ["Estimate: reward of bob", "Verdict: believe", "Limitations"]
    places = [text.index(f"\n{title}\n") for title in titles]
    assert places == sorted(places)
    for words in (
        "agent bob: 2 actions: left, right",
        "joint states: 3, of which 2 were visited",
        "stages: 2, of 20, 40 steps",
        "how it was made: stages: every 2 days",
        "discount: 0.9 (given)",
        "temperature: unknown; it fixes the unit only",
        "td (improvement 0, discount 0.9): weight 0.75; exact (improvement 0, discount 0.9)",
        "1 of 3 joint states were never visited",
    ):
        assert words in " ".join(text.split()), words
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize(
    "value", [3, 2.5, "x", True, [], ["a", 1.0], {"a": [1]}, np.arange(3), np.float64(0.1), [{}]]
)
def test_diagnostics_of_any_kind_are_shown(value):
    """Those of plugins may be any JSON, or arrays."""
    names = ["reward_model", "rule", "rule_weights", "rules_left_out", "discount", "settled"]
    names += ["identification", "bounds_hit", "log_evidence", "discount_interval"]
    found = result(diagnostics={"alice": dict.fromkeys(names, value)})
    assert "Verdict: believe" in found.summary()
    assert "Limitations" in found._repr_html_()


def test_summary_table_has_the_numbers_largest_first_and_no_unvisited_state():
    lines = result().summary().splitlines()
    start = lines.index("Estimate: reward of alice")
    first, second, note = (lines[start + offset].split() for offset in (2, 3, 4))
    assert first == ["hall,door", "0.500", "0.100", "0.300", "0.700", "18"]
    assert second == ["yard,$x_{$", "-0.250", "0.200", "-0.650", "0.150", "42"]
    assert note[:4] == ["(2", "of", "3", "values,"]


def test_html_escapes_every_name():
    html = result()._repr_html_()
    assert "<b>" not in html
    assert "all is &lt;well&gt;" in html
    assert html.count("<section>") == html.count("</section>") == 7
    hostile = replace(result().source, agents=("<script>", "bob"))
    assert "<script>" not in replace(result(), source=hostile)._repr_html_()


def test_values_leave_out_actions_that_do_not_matter():
    bob = values_of(result(), "bob")
    assert bob.acting == (1,)
    np.testing.assert_array_equal(bob.reward, [1, 2, 3, 4, 5, 6])
    assert bob.name(5) == "yard,$x_{$ | right"
    joint = result(rewards={"bob": np.arange(12.0).reshape(3, 2, 2)}, sd=None)
    assert values_of(joint, "bob").name(1) == "hall,door | go, right"


def test_cut_keeps_the_ends():
    table = {"a": np.arange(100.0)}
    places, gaps = cut_to(values_of(RecoveredRewards(table), "a"), 5)
    assert places.tolist() == [99, 98, 97, 1, 0]
    assert gaps == (3,)


def test_columns_of_the_table():
    columns = columns_of(result())
    order = ["agent", "state", "action/bob", "reward", "sd", "low", "high", "visits", "visited"]
    assert list(columns) == order
    assert columns["agent"] == ["alice"] * 3 + ["bob"] * 6
    assert columns["state"][:3] == ["hall,door", "hall,<b>", "yard,$x_{$"]
    assert columns["action/bob"] == [None] * 3 + ["left", "right"] * 3
    assert columns["high"][0] == pytest.approx(0.7)
    assert columns["visited"][:3] == [True, False, True]
    numbered = columns_of(RecoveredRewards({"a": np.array([1.0, 2.0])}))
    assert numbered == {"agent": ["a", "a"], "state": [0, 1], "reward": [1.0, 2.0]}


@pytest.mark.slow  # imports pandas
def test_to_dataframe():
    frame = result().to_dataframe()
    assert frame.shape == (9, 9)
    assert frame.query("agent == 'bob'").reward.sum() == 21


@pytest.mark.parametrize(
    ("module", "method", "extra"),
    [("pandas", "to_dataframe", "data"), ("arviz", "to_arviz", "arviz")],
)
def test_a_missing_package_is_named_with_its_extra(monkeypatch, module, method, extra):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"{module}: pip install \"malfl-env\[{extra}\]\""):
        getattr(result(), method)()


def test_draws_have_the_posterior_mean_and_covariance():
    root = np.array([[1.0, 0.0, 0.0], [0.5, 0.2, 0.0], [-1.0, 0.1, 0.3]])
    covariance = root @ root.T
    mean = np.array([1.0, -2.0, 0.5])
    made = RecoveredRewards(
        {"a": mean}, sd={"a": np.sqrt(np.diag(covariance))}, covariance={"a": covariance}
    )
    draws, coords, dims = draws_of(made, n_draws=20_000, seed=0)
    assert draws["a"].shape == (1, 20_000, 3)
    np.testing.assert_allclose(draws["a"][0].mean(axis=0), mean, atol=0.03)
    np.testing.assert_allclose(np.cov(draws["a"][0].T), covariance, atol=0.03)
    assert (coords, dims) == ({"state": [0, 1, 2]}, {"a": ["state"]})
    alone = draws_of(replace(made, covariance=None), n_draws=20_000, seed=0)[0]["a"][0]
    np.testing.assert_allclose(np.cov(alone.T), np.diag(np.diag(covariance)), atol=0.03)


@pytest.mark.parametrize("old", [True, False])
def test_arviz_gets_draws_with_labels(monkeypatch, old):
    got: dict[str, Any] = {}

    def from_dict(data: Any = None, **given: Any) -> str:
        got.update(given, **(data or {}))
        return "made"

    fake = SimpleNamespace(from_dict=from_dict, **({"InferenceData": object} if old else {}))
    monkeypatch.setitem(sys.modules, "arviz", fake)
    assert result().to_arviz(n_draws=7) == "made"
    assert got["posterior"]["bob"].shape == (1, 7, 3, 2, 2)
    assert got["dims"]["bob"] == ["state", "action/alice", "action/bob"]
    assert got["dims"]["alice"] == ["state"]
    assert got["coords"]["state"] == ["hall,door", "hall,<b>", "yard,$x_{$"]
    assert got["coords"]["action/bob"] == ["left", "right"]


def test_what_cannot_be_made_is_an_error_in_words():
    functions = RecoveredRewards(functions={"a": lambda seen, moves: np.zeros(len(seen))})
    assert "a function of observations" in functions.summary()
    for made in (functions.to_dataframe, functions.plot):
        with pytest.raises(InputError, match="functions of observations"):
            made()
    with pytest.raises(InputError, match="no standard deviations of alice, bob"):
        result(sd=None).to_arviz()
    with pytest.raises(InputError, match="n_draws must be >= 1"):
        result().to_arviz(n_draws=0)
    with pytest.raises(InputError, match="most must be >= 2, got 1"):
        result().plot(most=1)


def test_plot_shows_the_values_and_their_bars():
    figure = result().plot()
    axes = figure.axes[0]
    line, _, (bars,) = axes.containers[0]
    assert line.get_xdata().tolist() == [0.5, -0.25]
    ends = [segment[:, 0].tolist() for segment in bars.get_segments()]
    np.testing.assert_allclose(ends, [[0.3, 0.7], [-0.65, 0.15]])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["hall,door", "yard,$x_{$"]
    assert len(figure.axes) == 2
    figure.canvas.draw()


def test_plot_says_how_many_values_it_leaves_out():
    figure = RecoveredRewards({"a": np.arange(100.0)}).plot(most=6)
    assert "(94 left out)" in [text.get_text() for text in figure.findobj(Text)]


@pytest.mark.slow  # a process of its own
def test_a_summary_imports_nothing_heavy():
    program = (
        "import sys, numpy as np\n"
        "from malfl_algos import RecoveredRewards\n"
        "made = RecoveredRewards({'a': np.zeros(2)})\n"
        "made.summary(), repr(made)\n"
        "heavy = {'pandas', 'matplotlib', 'scipy', 'numba', 'pydantic', 'jinja2', 'torch'}\n"
        "print(sorted(heavy & {name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")
