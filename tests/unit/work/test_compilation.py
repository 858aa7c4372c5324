"""Compiled functions work without a cache, with a damaged one, and with a full disk; processes wait
for each other."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from pkgutil import walk_packages
from typing import Any

import numba
import pytest
from numba.core.dispatcher import Dispatcher

import malfl_algos
from malfl_algos.work import compilation
from malfl_algos.work.compilation import compiled, turn

SOURCE = """
from malfl_algos.work.compilation import compiled

@compiled(fused=True)
def twice(number):
    return 2 * number
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "code.py").write_text(SOURCE)
    return tmp_path / "cache"


def fresh(cache: Path) -> Any:
    """The function as a new process has it."""
    spec = spec_from_file_location("code_of_a_test", cache.parent / "code.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.twice


def hits(function: Any) -> int:
    return sum(function.stats.cache_hits.values())


@pytest.mark.parametrize("damage", ["empty", "cut", "other", "lost"])
@pytest.mark.parametrize("kind", ["*.nbi", "*.nbc"])
def test_a_damaged_cache_costs_a_compilation_and_is_mended(cache, damage, kind):
    assert fresh(cache)(3) == 6
    again = fresh(cache)
    assert (again(3), hits(again)) == (6, 1)
    (path,) = cache.rglob(kind)
    content = path.read_bytes()
    changed = {"empty": b"", "cut": content[: len(content) // 2], "other": b"x" * len(content)}
    if damage == "lost":
        path.unlink()
    else:
        path.write_bytes(changed[damage])
    damaged = fresh(cache)
    assert (damaged(3), hits(damaged)) == (6, 0)
    mended = fresh(cache)
    assert (mended(3), hits(mended)) == (6, 1)


def test_what_another_process_compiled_in_the_meantime_is_loaded(cache, monkeypatch):
    assert fresh(cache)(3) == 6
    elsewhere = cache.with_name("elsewhere")
    cache.rename(elsewhere)

    @contextmanager
    def other_process_compiles(path: Path) -> Iterator[bool]:
        assert path.suffix == ".lock"
        shutil.copytree(elsewhere, cache, dirs_exist_ok=True)
        yield True

    monkeypatch.setattr(compilation, "turn", other_process_compiles)
    function = fresh(cache)
    assert (function(3), hits(function)) == (6, 1)


@pytest.mark.skipif(find_spec("fcntl") is None, reason="files cannot be locked there")
def test_one_process_at_a_time(tmp_path):
    path = tmp_path / "folder" / "file.lock"
    # the second is another open file, as in another process
    with turn(path) as first, turn(path, wait=0.05) as second:
        assert (first, second) == (True, False)
    with turn(path, wait=0.0) as third:
        assert third
    with turn(path / "below a file") as possible:
        assert not possible


def test_a_function_that_cannot_be_kept_is_compiled_in_memory():
    names: dict[str, Any] = {}
    exec("def twice(number): return 2 * number", names)  # no file beside which it could be kept
    with pytest.raises(RuntimeError, match="cannot cache"):
        numba.njit(cache=True)(names["twice"])
    assert compiled()(names["twice"])(3) == 6


def test_a_full_disk_costs_the_cache_only(cache, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    function = fresh(cache)
    monkeypatch.setattr("os.replace", refuse)
    assert function(3) == 6


def test_no_loop_reorders_sums():
    loops = {}
    for module in walk_packages(malfl_algos.__path__, "malfl_algos."):
        if "compiled" in (find_spec(module.name).loader.get_source(module.name) or ""):
            loops |= vars(import_module(module.name))
    ours = {name: loop for name, loop in loops.items() if isinstance(loop, Dispatcher)}
    assert {"replay", "follow", "sweep"} <= ours.keys()
    for name, loop in ours.items():
        assert loop.targetoptions.get("fastmath", False) in (False, {"contract"}), name
