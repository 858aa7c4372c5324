"""What the summary of a result says about the model: what was given, chosen or left open."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from malfl_algos.plugins.discovery import discover
from malfl_algos.recovered import RecoveredRewards, Source

__all__ = ["RULES_WITHOUT_STEPS", "is_given", "model_facts", "number", "shared", "step_size"]


def number(value: Any) -> str:
    """A number with three significant digits; other values as they are."""
    if value is None:
        return "-"
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (int, np.integer)):
        return str(int(value))
    if isinstance(value, (float, np.floating)):
        return f"{float(value):.3g}"
    if isinstance(value, (list, tuple, np.ndarray)):
        return ", ".join(map(number, value)) or "none"
    return str(value)


def is_given(value: Any) -> bool:
    """Whether a diagnostic says something: not null, and no empty text or list."""
    return value is not None and not (hasattr(value, "__len__") and len(value) == 0)


def model_facts(result: RecoveredRewards) -> list[tuple[str, str]]:
    """Observer, dynamics, reward model, learning rule, discount, temperature: name and text."""
    facts: list[tuple[str, str]] = []
    source = result.source
    if source is not None:
        facts.append(("observer", _command_name(source.observer)))
        if source.visits is not None:
            given = "given" if source.game_given else "estimated from the trace"
            facts.append(("dynamics", given))
        if source.known_policies:
            facts.append(("known policies", ", ".join(map(str, source.known_policies))))
    facts += shared(
        result, "reward depends on", lambda own: _REWARDS.get(str(own), str(own)), "reward_model"
    )
    facts += _learning_rule(result)
    facts += shared(result, "rules left open", _weights, "rule_weights")
    facts += shared(result, "rules left out", str, "rules_left_out")
    facts += _discount(result)
    facts += _temperature(source)
    return facts


def _command_name(observer: str | None) -> str:
    """The name of an observer on the command line, where its class has one."""
    if observer is None:
        return "not known"
    plugins, _ = discover()
    names = {
        one.name
        for one in plugins
        if one.kind == "observer" and one.value.rpartition(":")[2] == observer
    }
    return names.pop() if len(names) == 1 else observer


_REWARDS = {
    "state": "the joint state",
    "next_state": "the joint state that a step leads to",
    "own_action": "the joint state and the agent's own action",
    "joint": "the joint state and the joint action",
    "features": "given features",
}


def _learning_rule(result: RecoveredRewards) -> Iterator[tuple[str, str]]:
    """The assumed rule of the learners, and among which others the evidence chose it."""
    tables = [own["searches"] for own in result.diagnostics.values() if own.get("searches")]
    tried = next((list(own["rule"]) for own in tables if own.get("rule")), [])
    for title, text in shared(result, "learning rule", str, "rule", "learner_model"):
        among = f" (chosen by the evidence among {'; '.join(tried)})" if len(tried) > 1 else ""
        yield title, text + among


RULES_WITHOUT_STEPS = ("exact", "policy-gradient")


def step_size(own: Mapping[str, Any]) -> str | None:
    """The step size of the learning rule and where it is from; None: the rule has none."""
    value = own.get("step_size")
    if value is None or own.get("rule") in RULES_WITHOUT_STEPS:
        return None
    searched = "step_size" in (own.get("searches") or {})
    return f"{number(value)} ({'chosen by the evidence' if searched else 'assumed'})"


def _weights(own: Any) -> str:
    """The rules that the evidence leaves open, with their weights."""
    if not isinstance(own, (list, tuple)):
        return str(own)
    return "; ".join(_weighted(entry) for entry in own)


def _weighted(entry: Any) -> str:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("weight"), (int, float)):
        return str(entry)
    others = [
        f"{name} {number(value)}"
        for name, value in entry.items()
        if name not in ("weight", "rule") and value is not None
    ]
    extra = f" ({', '.join(others)})" if others else ""
    return f"{entry.get('rule', 'rule')}{extra}: weight {float(entry['weight']):.2f}"


def shared(
    result: RecoveredRewards, title: str, words: Any, *names: str
) -> Iterator[tuple[str, str]]:
    """A diagnostic by the first of its names that is there: one fact, or one for each agent."""

    def told(own: Mapping[str, Any]) -> str | None:
        value = next((own[name] for name in names if is_given(own.get(name))), None)
        return None if value is None else str(words(value))

    yield from _by_agent(result, title, told)


def _by_agent(
    result: RecoveredRewards, title: str, told: Callable[[Mapping[str, Any]], str | None]
) -> Iterator[tuple[str, str]]:
    """What the diagnostics tell: one fact if it is the same of all agents, or one for each."""
    agents = result.agents or tuple(result.diagnostics)
    said = {agent: told(result.diagnostics.get(agent, {})) for agent in agents}
    found = {agent: text for agent, text in said.items() if text is not None}
    if len(set(found.values())) == 1 and len(found) == len(agents):
        yield title, next(iter(found.values()))
        return
    for agent, text in found.items():
        yield f"{title}, {agent}", text


def _discount(result: RecoveredRewards) -> Iterator[tuple[str, str]]:
    source = result.source
    if source is not None and source.discount is not None:
        yield "discount", f"{number(source.discount)} ({_from(source, 'discount')})"
        return
    yield from _by_agent(result, "discount", _estimated_discount)


def _estimated_discount(own: Mapping[str, Any]) -> str | None:
    """An estimated discount with its interval, in words."""
    best, interval = own.get("discount"), own.get("discount_interval")
    if best is None:
        return None
    if not interval:
        return f"{number(best)} (estimated from the trace)"
    opened = own.get("discount_interval_open") or ()
    low, high = map(number, interval)
    if len(opened) == 2:
        return f"not identified: all from {low} to {high} explain the data about as well"
    ends = {"lower": f"; open below: tried from {low}", "upper": f"; open above: tried to {high}"}
    note = "".join(ends[side] for side in opened)
    return f"{number(best)} (95 % interval {low} to {high}, by profile likelihood{note})"


def _temperature(source: Source | None) -> Iterator[tuple[str, str]]:
    if source is None:
        return
    if source.temperature is None:
        yield "temperature", "unknown; it fixes the unit only: rewards are in units of it"
    else:
        yield (
            "temperature",
            f"{number(source.temperature)} ({_from(source, 'temperature')}); it fixes the unit of "
            "the rewards",
        )


def _from(source: Source, name: str) -> str:
    return "default" if name in source.by_default else "given"
