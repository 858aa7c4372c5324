"""YAML that anybody may have written: plain values, or one line that names the file."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from malfl_algos.storage.yaml_files import parse_yaml, read_mapping, yaml_text
from malfl_env.errors import InputError

YAML_PIECES = (
    *("&a ", "*a", "<<: ", "!!", "int ", "set ", "binary ", "timestamp ", "- ", "? ", ": ", "{"),
    *("}", "[", "]", ",", "'", '"', "|\n", "\n", " ", "0x", "1_", "9", ".inf", "x", "a: "),
)


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x, x]\n"
        + "".join(
            f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n"
            for a, b in zip("abcdefgh", "bcdefghi", strict=True)
        ),
        "a: &a {k: 1}\n"
        + "".join(
            f"{b}: &{b} {{<<: [{', '.join([f'*{a}'] * 9)}]}}\n"
            for a, b in zip("abcdefgh", "bcdefghi", strict=True)
        ),
        "a: &a [*a]",
        "[" * 60 + "]" * 60,
        "{a: " * 60 + "}" * 60,
        "[" * 100_000,
        "- " * 5000 + "x",
        "a: 1\na: 2",
        "{1: a, true: b}",
        "!!python/object/apply:os.system ['touch pwned']",
        "!!python/name:os.system",
        "!!python/object/new:os.system [x]",
        "!!int ''",
        "!!timestamp x",
        "!!bool maybe",
        "!!float x",
        "9" * 5000,
        "0x" + "9" * 5000,
        "1e999",
        "a: &a {<<: *a}",
        "<<: {a: 1}\n<<: {b: 2}",
        "<<: [1]",
        "a\n---\nb",
        "\udc80",
        "? {a: b}\n: c",
        "%TAG ! tag:yaml.org,2002:python/\n---\n!name:os.system",
    ],
)
def test_yaml_that_grows_or_runs_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r".{10,700}") as caught:
        parse_yaml(text)
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    "text",
    ["010", "-010", "00", "0o10", "0b1", "-0x1f", "0x_1", "1:30", "1:30:00.5", "1_000", "1_0.5"],
)
@pytest.mark.parametrize("place", ["{}", "a: {}", "[1, {}]", "{}: 1"])
def test_numbers_that_readers_take_differently_are_refused(text: str, place: str) -> None:
    with pytest.raises(InputError, match=f"the number {text} is ambiguous.*, line 1"):
        parse_yaml(place.format(text))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("-7", -7),
        ("+7", 7),
        ("0x1f", 31),
        ("1e-3", 0.001),
        ("1E3", 1000.0),
        ("01.5", 1.5),
        (".5", 0.5),
        ("5.", 5.0),
        ("-.inf", float("-inf")),
        ("yes", "yes"),
        ("off", "off"),
        ("N", "N"),
        ("2001-01-01", "2001-01-01"),
        ("1.2.3", "1.2.3"),
        ("10:99", "10:99"),
        (".", "."),
        ("='", "='"),
        ("'010'", "010"),
        ('"1e-3"', "1e-3"),
        ("!!str 010", "010"),
        ("True", True),
        ("~", None),
        ("", None),
        ("\ufeffa: 1\r\nb: 2\r\n", {"a": 1, "b": 2}),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    read = parse_yaml(text)
    assert (read, type(read)) == (value, type(value))


@given(text=st.text(max_size=20) | st.from_regex(r"[-+0-9eExob_:.~<=nNyt]{1,8}", fullmatch=True))
def test_any_text_is_written_so_that_it_is_read_back(text: str) -> None:
    with suppress(yaml.YAMLError):  # characters that YAML cannot hold
        assert parse_yaml(yaml_text({"a": text, text: [text]})) == {"a": text, text: [text]}


def test_merge_keys_work() -> None:
    text = (
        "x: {in: &b {<<: &a {k: 1, l: 1}, k: 2}}\n"
        "y: {<<: *b, m: 3}\nz: {k: 0, <<: [*b, {l: 9, n: 9}]}"
    )
    read = parse_yaml(text)
    assert read["x"]["in"] == {"k": 2, "l": 1}
    assert read["y"] == {"k": 2, "l": 1, "m": 3}
    assert read["z"] == {"k": 0, "l": 1, "n": 9}
    assert parse_yaml("'<<': 1") == {"<<": 1}


def test_megabytes_are_read_in_seconds() -> None:
    text = "seeds: [" + "1," * 250_000 + "1]\n"
    began = time.process_time()
    assert len(parse_yaml(text)["seeds"]) == 250_001
    assert time.process_time() - began < 3.0


def test_aliases_that_do_not_multiply_are_read() -> None:
    assert parse_yaml("a: &a [1, 2]\nb: *a\nc: {d: *a}") == {
        "a": [1, 2],
        "b": [1, 2],
        "c": {"d": [1, 2]},
    }


def test_a_file_of_gigabytes_is_no_yaml(tmp_path: Path) -> None:
    with (tmp_path / "big.yaml").open("wb") as stream:
        stream.truncate(3 * 2**30)
    with pytest.raises(ValueError, match=r"big\.yaml: not valid YAML: larger than"):
        read_mapping(tmp_path / "big.yaml")


@pytest.mark.filterwarnings("error")
@given(
    content=st.one_of(
        st.binary(max_size=80),
        st.lists(
            st.sampled_from(YAML_PIECES),
            max_size=25,
        ).map(lambda parts: "".join(parts).encode()),
    )
)
def test_any_bytes_are_yaml_or_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "hostile.yaml"
    path.write_bytes(content)
    said = f"{path}: it was read"
    try:
        assert isinstance(read_mapping(path), dict)
    except ValueError as fault:
        said = str(fault)
    assert str(path) in said
    assert "\n" not in said
