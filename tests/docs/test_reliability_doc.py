import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def test_every_promise_names_tests_that_exist():
    page = (REPOSITORY / "docs" / "reliability.md").read_text()
    promises = re.findall(
        r"^\| ([^|]+) \| ([^|]+) \|$", page.partition("## `malfl verify")[0], re.M
    )
    promises = [row for row in promises if row[0] != "promise"]
    assert len(promises) > 10
    file = ""
    for promise, proofs in promises:
        names = re.findall(r"`([\w./]*)::(\w+)`", proofs)
        assert names or proofs.startswith("the same tests"), promise
        for place, test in names:
            file = place or file
            assert f"\ndef {test}(" in (REPOSITORY / file).read_text(), (promise, test)
