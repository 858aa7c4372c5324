import contextlib
import re
from typing import ClassVar

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from malfl_algos.experiments.config import ExperimentConfig, extended, from_mapping, to_mapping
from malfl_algos.plugins.options import option_hints
from malfl_algos.storage.yaml_files import parse_yaml, yaml_text

labels = st.text("abcxyz019-", min_size=1, max_size=8).filter(lambda label: label != "ma-spi")
numbers = st.floats(-1e6, 1e6, allow_nan=False)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
options = st.dictionaries(
    st.text(min_size=1, max_size=5), numbers | st.booleans() | st.text(max_size=4)
)


class CoreSchema(yaml.CSafeLoader):
    """PyYAML's own composing and constructing, with the scalars of YAML 1.2's core schema."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {}


for tag, pattern in (
    ("null", r"~|null|Null|NULL|"),
    ("bool", r"true|True|TRUE|false|False|FALSE"),
    ("int", r"[-+]?[0-9]+|0x[0-9a-fA-F]+"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)"),
    ("float", r"\.(nan|NaN|NAN)"),
    ("merge", r"<<"),
):
    CoreSchema.add_implicit_resolver(
        f"tag:yaml.org,2002:{tag}", re.compile(rf"^({pattern})$"), [None]
    )


@st.composite
def configurations(draw: st.DrawFn) -> ExperimentConfig:
    families = draw(
        st.dictionaries(
            labels.filter(lambda name: name not in ("homogeneous", "heterogeneous", "figures")),
            st.tuples(st.sampled_from(["approach", "avoid"]), st.lists(numbers, min_size=1)),
            max_size=2,
        )
    )
    names = draw(st.lists(labels, min_size=1, max_size=3, unique=True))
    return from_mapping(
        {
            "game": {"size": draw(st.integers(2, 6)), "slip": draw(st.floats(0, 1))},
            "families": families,
            "reward_families": draw(st.permutations(["homogeneous", "heterogeneous", *families])),
            "iterations": draw(st.integers(2, 100)),
            "discount": draw(st.floats(0, 1, exclude_max=True)),
            "temperature": draw(st.floats(1e-6, 1e6)),
            "seeds": draw(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=4, unique=True)),
            "observers": [{"name": n, "label": n, "options": draw(options)} for n in names],
            "seat": draw(st.sampled_from(["external", "agent"])),
        }
    )


@settings(max_examples=40)
@given(configurations())
def test_what_is_written_is_read_back(config: ExperimentConfig) -> None:
    text = yaml_text(to_mapping(config))
    assert from_mapping(parse_yaml(text)) == config
    assert yaml_text(to_mapping(from_mapping(parse_yaml(text)))) == text


@given(configurations())
def test_a_run_can_always_be_resumed_with_its_own_configuration(config: ExperimentConfig) -> None:
    assert extended(config, config) == config


@given(st.dictionaries(st.sampled_from(list(option_hints(ExperimentConfig))), plain))
def test_any_values_give_a_configuration_or_a_value_error(given_values: dict[str, object]) -> None:
    with contextlib.suppress(ValueError):
        config = from_mapping(given_values)
        assert from_mapping(to_mapping(config)) == config


@given(st.text(max_size=60))
def test_any_text_is_parsed_as_yaml_1_2_parses_it_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        value = parse_yaml(text)
        assert repr(value) == repr(yaml.load(text, Loader=CoreSchema))
