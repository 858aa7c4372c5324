"""Imports point down only: the layers of docs/explanation/architecture.md, read from the source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("malfl_env", "malfl_algos")

LAYERS: tuple[tuple[str, ...], ...] = (
    ("malfl_env",),
    (
        "malfl_algos.soft",
        "malfl_algos.ma_lfl",
        "malfl_algos.baselines",
        "malfl_algos.scores",
        "malfl_algos.verdict",
        "malfl_algos.normal",
        "malfl_algos.work.compilation",
        "malfl_algos.work.telling",
        "malfl_algos.work.threads",
    ),
    (
        "malfl_algos.trace",
        "malfl_algos.problem",
        "malfl_algos.recovered",
        "malfl_algos.contract",
        "malfl_algos.ground_truth",
        "malfl_algos",
    ),
    ("malfl_algos.storage", "malfl_algos.play", "malfl_algos.plugins", "malfl_algos.logs"),
    ("malfl_algos.learners", "malfl_algos.observers", "malfl_algos.networks"),
    ("malfl_algos.testing",),
    ("malfl_algos.experiments", "malfl_algos.work"),
    ("malfl_algos.report",),
    ("malfl_algos.cli", "malfl_algos.__main__"),
)
"""From the bottom up. A module belongs to the entry with the longest name that fits."""

EXCEPTIONS: dict[tuple[str, str], str] = {
    ("malfl_algos.trace", "malfl_algos.storage.traces"): "LearningTrace.save and load, lazily",
    ("malfl_algos.trace", "malfl_algos.logs.reading"): "LearningTrace.from_table, lazily",
    ("malfl_algos.trace", "malfl_algos.logs.arrays"): "LearningTrace.from_transitions, lazily",
    ("malfl_algos.ground_truth", "malfl_algos.storage.arrays"): "GroundTruth.save and load, lazily",
    ("malfl_env.markov_game", "malfl_env.game_files"): "MarkovGame.save and load, lazily",
    ("malfl_env.markov_game", "malfl_env.game_tables"): "MarkovGame.from_tables, lazily",
    ("malfl_algos.recovered", "malfl_algos.storage.results"): "RecoveredRewards.save and load",
    ("malfl_algos.recovered", "malfl_algos.report.result_text"): "RecoveredRewards.summary, lazily",
    ("malfl_algos.recovered", "malfl_algos.report.pages"): "its HTML in notebooks, lazily",
    ("malfl_algos.recovered", "malfl_algos.report.frames"): "its tables, lazily",
    ("malfl_algos.recovered", "malfl_algos.report.result_figures"): "RecoveredRewards.plot, lazily",
    ("malfl_algos", "malfl_algos.storage.trace_folders"): "malfl_algos.TraceWriter, lazily",
    ("malfl_algos", "malfl_algos.observers.judging"): "malfl_algos.judge, lazily",
}
"""(importer, imported): why it may."""

FACES = frozenset(
    {
        "malfl_env",
        "malfl_env.errors",
        "malfl_env.games",
        "malfl_env.markov_game",
        "malfl_env.observations",
        "malfl_env.testing",
        "malfl_algos",
        "malfl_algos.contract",
        "malfl_algos.play",
        "malfl_algos.plugins",
        "malfl_algos.scores",
        "malfl_algos.soft",
        "malfl_algos.testing",
    }
)
"""What is public; all that plugins import."""
LONGEST_CHAIN = 9
"""Of imports among folders and the files beside them."""
PRIVATE_IN_TESTS: dict[tuple[str, str], str] = {}
"""(test file, private name): why it may."""


def source_files() -> dict[str, Path]:
    """Every module by its dotted name."""
    files = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return files


def imports(path: Path, known: set[str], *, at_top_only: bool = False) -> Iterator[str]:
    """Modules of ours that a file imports, those for type checkers alone left out."""

    def visit(node: ast.AST) -> Iterator[ast.stmt]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
            if isinstance(child, (ast.Import, ast.ImportFrom)):
                yield child
            elif not (at_top_only and isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef))):
                yield from visit(child)

    for statement in visit(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names if alias.name in known)
        elif isinstance(statement, ast.ImportFrom) and statement.module in known:
            deeper = {f"{statement.module}.{alias.name}" for alias in statement.names} & known
            yield from deeper or {statement.module}


def layer(module: str) -> int:
    """The number of a module's layer."""
    fits = {
        name: number
        for number, names in enumerate(LAYERS)
        for name in names
        if module == name or module.startswith(f"{name}.")
    }
    return fits[max(fits, key=len)]


FILES = source_files()
GRAPH = {name: set(imports(path, set(FILES))) - {name} for name, path in FILES.items()}


def test_the_reader_of_imports_finds_them():
    """A graph that is empty would pass everything."""
    assert sum(map(len, GRAPH.values())) > 300
    assert "malfl_env.rules" in GRAPH["malfl_env.grid_world"]


def test_imports_point_down_only():
    upward = {
        (importer, imported)
        for importer, found in GRAPH.items()
        for imported in found
        if layer(imported) > layer(importer)
    }
    assert sorted(upward - EXCEPTIONS.keys()) == []
    within = {
        (one, two) for one, two in EXCEPTIONS if layer(one) == layer(two) and one in GRAPH[two]
    }
    assert sorted(EXCEPTIONS.keys() - upward - within) == [], (
        "exceptions that nobody needs any more"
    )


def test_no_circles():
    """Also through imports inside functions, but for the exceptions."""
    done: set[str] = set()

    def walk(module: str, way: tuple[str, ...]) -> None:
        if module in way:
            pytest.fail("a circle of imports: " + " -> ".join((*way[way.index(module) :], module)))
        if module in done:
            return
        for imported in sorted(GRAPH[module]):
            if (module, imported) not in EXCEPTIONS:
                walk(imported, (*way, module))
        done.add(module)

    for module in sorted(GRAPH):
        walk(module, ())


def room(module: str) -> str:
    """The folder of `malfl_algos` that a module is in, or the file beside them."""
    return ".".join(module.split(".")[: 1 if module.startswith("malfl_env") else 2])


def test_the_longest_chain_of_imports_among_rooms():
    """How many floors the house has."""
    rooms: dict[str, set[str]] = {room(module): set() for module in GRAPH}
    for importer, found in GRAPH.items():
        kept = {room(other) for other in found if (importer, other) not in EXCEPTIONS}
        rooms[room(importer)] |= kept - {room(importer)}

    def chain(name: str, above: tuple[str, ...] = ()) -> tuple[str, ...]:
        assert name not in above, f"a circle of rooms: {' -> '.join((*above, name))}"
        below = [chain(other, (*above, name)) for other in sorted(rooms[name])]
        return (name, *max(below, key=len, default=()))

    longest = max(map(chain, rooms), key=len)
    assert len(longest) <= LONGEST_CHAIN, " -> ".join(longest)


def test_packages_say_what_is_public():
    """In the docstring of their `__init__`."""
    silent = [
        name
        for name, path in FILES.items()
        if path.name == "__init__.py"
        and not re.search(r"\b[Pp]ublic\b", ast.get_docstring(ast.parse(path.read_text())) or "")
    ]
    assert silent == []


def test_plugins_import_public_faces_only():
    folders = [ROOT / "plugins" / name for name in ("malfl-example", "malfl-sb3/malfl_sb3")]
    files = [path for folder in folders for path in folder.glob("*.py")]
    assert len(files) > 3
    known = set(FILES)
    deeper = {
        (path.name, module)
        for path in files
        for module in imports(path, known)
        if module not in FACES
    }
    assert sorted(deeper) == []


def private_names(path: Path) -> Iterator[tuple[str, str]]:
    """(module, name) of every private name of ours that a test file imports, reads or replaces."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    modules: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("malfl_"):
            for alias in node.names:
                modules[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                yield str(node.module), alias.name
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id in modules:
                yield modules[node.value.id], node.attr
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "setattr":
            first, second = [*node.args, None, None][:2]
            if isinstance(first, ast.Name) and isinstance(second, ast.Constant):
                yield modules.get(first.id, ""), str(second.value)
            elif isinstance(first, ast.Constant):
                module, _, name = str(first.value).rpartition(".")
                yield module, name


def test_tests_leave_private_names_of_other_modules_alone():
    """`test_x.py` may look into module `x`, and into no other."""
    files = [*(ROOT / "tests").rglob("*.py"), *(ROOT / "plugins").glob("*/tests/*.py")]
    assert len(files) > 50
    met = {
        (str(path.relative_to(ROOT)), f"{module}.{name}")
        for path in files
        for module, name in private_names(path)
        if re.match(r"_[^_]", name)
        and module.startswith("malfl_")
        and module.rpartition(".")[2] != path.stem.removeprefix("test_")
    }
    assert sorted(met - PRIVATE_IN_TESTS.keys()) == []
    assert sorted(PRIVATE_IN_TESTS.keys() - met) == [], "nobody needs these exceptions any more"


def test_every_file_is_in_a_known_room():
    """A new folder is a decision; the root of `malfl_algos` stays small."""
    folders = {str(path.parent.relative_to(ROOT)) for path in FILES.values()}
    assert len(folders) <= 22, sorted(folders)
    at_the_root = [n for n, p in FILES.items() if p.parent == ROOT / "malfl_algos"]
    assert len(at_the_root) <= 9, at_the_root
