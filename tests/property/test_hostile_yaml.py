"""YAML that anybody may have written: plain values, or one line that names the file."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from malfl_algos.storage.yaml_files import parse_yaml, read_mapping

BOUNDED = settings(
    deadline=None,
    derandomize=True,
    max_examples=100,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
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
        "2001-99-99",
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


def test_aliases_that_do_not_multiply_are_read() -> None:
    assert parse_yaml("a: &a [1, 2]\nb: *a\nc: {d: *a}") == {
        "a": [1, 2],
        "b": [1, 2],
        "c": {"d": [1, 2]},
    }


def test_a_file_of_gigabytes_is_no_yaml(tmp_path: Path) -> None:
    with (tmp_path / "big.yaml").open("wb") as stream:
        stream.truncate(3 * 2**30)
    with pytest.raises(ValueError, match=r"big\.yaml: not valid YAML: more than"):
        read_mapping(tmp_path / "big.yaml")


@pytest.mark.filterwarnings("error")
@BOUNDED
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
