"""Every block of code of README and docs runs as a reader would paste it, or is at least parsed."""

from __future__ import annotations

import importlib
import os
import re
import sys
from configparser import ConfigParser
from inspect import signature
from pathlib import Path

import pytest
import yaml
from pages import (
    DOCS,
    PAGES,
    ROOT,
    Block,
    blocks,
    commands,
    furnish,
    has_placeholder,
    outputs,
    parse,
    shape,
)

from malfl_algos.cli.main import main
from malfl_algos.cli.table import COMMANDS

pytest.importorskip("pyarrow")

DATA = "MALFL_LABYRINTH"
"""Environment variable of the folder with the trajectories of mice, which are not ours."""
ELSEWHERE = {
    "README.md": "tests/e2e/test_readme.py",
    "how-to/games.md": "tests/e2e/test_games_doc.py",
    "how-to/vector.md": "tests/unit/malfl_env/test_vector.py",
    "explanation/large_games.md": "tests/unit/ma_lfl/test_settings.py",
    "how-to/plugins.md": "tests/e2e/test_plugin_docs.py",
    "how-to/networks.md": "tests/torch/test_networks_doc.py",
    "how-to/stable-baselines3.md": "plugins/malfl-sb3/tests/test_readme.py",
}
"""Pages with tests of their own: more is checked there, or they need other packages."""
SHORTER = {"tutorials/mice-in-a-labyrinth.md": {"range(3, 11)": "range(3, 4)"}}
"""What is made smaller in pages under test, because it takes minutes."""
OTHERS = set(["cp", "cd", "export", "python3", ".", "ray", "for", "done", "pytest", "sphinx-build"])
"""Commands that are not ours, and are taken as they stand."""
KNOWN = {
    "python",
    "sh",
    "text",
    "yaml",
    "toml",
    "{include}",
    "{eval-rst}",
    "{literalinclude}",
    "{raw}",
}


def name_of(page: Path) -> str:
    return str(page.relative_to(DOCS if DOCS in page.parents else ROOT))


def runs(block: Block) -> bool:
    if block.not_run or block.installs or block.language not in ("sh", "python"):
        return False
    own = commands(block.text) if block.language == "sh" else []
    return block.language == "python" or any(
        words[0] == "malfl" and not has_placeholder(words) for words in own
    )


RUN = [page for page in PAGES if name_of(page) not in ELSEWHERE and any(map(runs, blocks(page)))]


def check_python(words: list[str]) -> None:
    """`python scripts/NAME.py ...`, parsed by the script itself; `python -m pytest FOLDER`."""
    if words[1] in ("-m", "rename.py", "slurm_cluster.py"):  # of the template; of the page itself
        assert words[1] != "-m" or words[2] in ("pytest", "sphinx")
        return
    script = Path(words[1])
    assert (ROOT / script).is_file(), words
    source = (ROOT / script).read_text(encoding="utf-8")
    if "import torch" in source or "malfl_sb3" in source:  # not here: its options, by name
        assert all(f'"{word}"' in source for word in words if word.startswith("--")), words
        return
    run = importlib.import_module(script.stem).main
    parse(words[2:], run if signature(run).parameters else lambda _: run())


def check_pip(words: list[str], extras: set[str]) -> None:
    """Extras exist, and so do folders."""
    for word in words[2:]:
        for extra in re.findall(r"(?:\.|malfl-env)\[([\w,]+)\]", word):
            assert set(extra.split(",")) <= extras, words
        if word.startswith("./"):
            assert (ROOT / word.partition("[")[0]).is_dir(), words


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_blocks_parse(page: Path) -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    extras = {*setup["options.extras_require"], "test"}
    for block in blocks(page):
        assert block.language.partition(" ")[0] in KNOWN, (
            f"a block of {page.name} has no language: {block.text}"
        )
        if block.language == "python":
            compile(block.text, page.name, "exec")
        elif block.language == "yaml":
            assert isinstance(yaml.safe_load(block.text), dict)
        elif block.language == "toml" and sys.version_info >= (3, 11):
            import tomllib

            assert tomllib.loads(block.text)
        for words in commands(block.text) if block.language == "sh" else ():
            if words[0] == "malfl" and "--help" in words:
                assert words[1] in COMMANDS, words
            elif words[0] == "malfl":
                parse(words[1:], main)
            elif words[0] == "python":
                own = words[1] in ("-m", "rename.py", "slurm_cluster.py") or block.installs
                assert own or block.not_run, f"not run, so say so: {words}"
                check_python(words)
            elif words[0] == "pip":
                check_pip(words, extras)
            else:
                assert words[0] in OTHERS, words


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN, ids=name_of)
def test_the_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if DATA in page.read_text(encoding="utf-8") and DATA not in os.environ:
        pytest.skip(f"{DATA} does not name the folder of the trajectories of mice")
    furnish(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    shorter = SHORTER.get(name_of(page))
    following = dict(zip(blocks(page), blocks(page)[1:], strict=False))
    try:
        for block, printed in outputs(page, shorter):
            after = following.get(block)
            if after is None or after.language != "text":
                continue
            if shorter and block.language == "python":
                assert set(shape(printed)) <= set(shape(after.text))
            else:
                assert shape(printed) == shape(after.text)
    finally:  # modules that the reader saves have the same names on several pages
        for module in set(sys.modules) - before:
            if str(getattr(sys.modules[module], "__file__", "")).startswith(str(tmp_path)):
                del sys.modules[module]


@pytest.mark.parametrize("page", ELSEWHERE)
def test_other_pages_have_tests_of_their_own(page: str) -> None:
    assert any(name_of(own) == page for own in PAGES)
    names = {Path(page).name, "README.md" if "stable" in page else Path(page).name}
    assert any(name in (ROOT / ELSEWHERE[page]).read_text(encoding="utf-8") for name in names)


@pytest.mark.parametrize("image", sorted((DOCS / "images").iterdir()), ids=lambda path: path.name)
def test_every_figure_has_a_command_on_the_pages_that_show_it(image: Path) -> None:
    """The text beside it names the file that a command of the page writes, or its code does."""
    shown = [page for page in PAGES if f"images/{image.name})" in page.read_text(encoding="utf-8")]
    assert shown
    for page in shown:
        paragraphs = page.read_text(encoding="utf-8").split("\n\n")
        (place,) = (i for i, own in enumerate(paragraphs) if f"images/{image.name})" in own)
        near = "\n".join(paragraphs[max(place - 2, 0) : place + 2])
        code = "\n".join(re.findall(r"`[^`\n]+`|^```.*?^```", page.read_text(), re.DOTALL | re.M))
        assert re.search(r"`[^`\n]+\.png`", near) or image.name in code, page
        assert re.search(r"python scripts/\w|malfl \w|savefig", code), page
