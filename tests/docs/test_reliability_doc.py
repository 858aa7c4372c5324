import ast
import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def _tests(file: str) -> dict[str, bool]:
    """The tests of a file, and whether all of a test is marked slow."""
    return {
        item.name: "pytest.mark.slow" in map(ast.unparse, item.decorator_list)
        for item in ast.parse((REPOSITORY / file).read_text()).body
        if isinstance(item, ast.FunctionDef)
    }


def test_every_promise_names_tests_that_exist_and_one_at_least_is_quick():
    page = (REPOSITORY / "docs" / "reference" / "reliability.md").read_text()
    table = page.partition("## `malfl verify")[0]
    promises = re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", table, re.M)
    promises = [row for row in promises if row[0] != "promise"]
    assert len(promises) > 10
    file = ""
    for promise, proofs in promises:
        names = re.findall(r"`([\w./]*)::(\w+)`", proofs)
        assert names or proofs.startswith("the same tests"), promise
        slow = []
        for place, test in names:
            file = place or file
            slow.append(_tests(file)[test])
        assert not names or not all(slow), promise
