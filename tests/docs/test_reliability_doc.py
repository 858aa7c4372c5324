import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def test_every_promise_names_tests_that_exist_and_one_at_least_is_quick():
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
        quick = 0
        for place, test in names:
            file = place or file
            before, found, _ = (REPOSITORY / file).read_text().partition(f"\ndef {test}(")
            assert found, (promise, test)
            quick += not before.endswith("\n@pytest.mark.slow")
        assert quick or not names, promise
