"""Releases: links that work outside the repository, archives without traces of the machine."""

from __future__ import annotations

import io
import os
import re
import tarfile
from pathlib import Path

import pytest
import release

ROOT = Path(__file__).parents[3]
ADDRESS = "https://example.org/team/game"


@pytest.mark.parametrize("folder", [".", *release.PLUGINS])
def test_every_relative_link_leads_to_a_file_of_the_repository(folder):
    text = release.absolute_links((ROOT / folder / "README.md").read_text(), folder, ADDRESS, "v9")
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    assert all(re.match(r"https?://|#", target) for target in targets)
    ours = [target for target in targets if target.startswith(ADDRESS)]
    assert ours or folder == "plugins/malfl-example"
    for target in ours:
        path = re.fullmatch(rf"{ADDRESS}/(?:raw|blob)/v9/([^#]+)(#.*)?", target)[1]
        assert (ROOT / path).exists(), target


def test_pictures_are_raw_files_and_anchors_stay():
    text = "![a](docs/x.png) [b](../y.md#z) [c](#here) [d](https://paper)"
    assert release.absolute_links(text, "plugins/p", ADDRESS, "v1") == (
        f"![a]({ADDRESS}/raw/v1/plugins/p/docs/x.png) [b]({ADDRESS}/blob/v1/plugins/y.md#z) "
        "[c](#here) [d](https://paper)"
    )


def test_an_archive_says_nothing_of_the_machine(tmp_path):
    made = []
    for order, time, owner in (("ab", 1e9, "me"), ("ba", 1.5e9, "you")):
        plain = io.BytesIO()
        with tarfile.open(fileobj=plain, mode="w:gz") as archive:
            for name in order:
                (tmp_path / name).write_text(name * 10)
                os.utime(tmp_path / name, (time, time))
                member = archive.gettarinfo(tmp_path / name, arcname=f"package/{name}")
                member.uname = owner
                with (tmp_path / name).open("rb") as file:
                    archive.addfile(member, file)
        made.append(release.same_bytes(plain.getvalue(), 1_700_000_000))
    assert made[0] == made[1]
    with tarfile.open(fileobj=io.BytesIO(made[0])) as archive:
        assert archive.extractfile("package/b").read() == b"b" * 10


def test_bad_input_is_told_before_anything_is_built(tmp_path, capsys):
    (tmp_path / "old.whl").touch()
    for arguments in (["--address", "example.org"], ["--output-dir", str(tmp_path)]):
        with pytest.raises(SystemExit) as stop:
            release.main(arguments)
        assert stop.value.code == 2
    assert "is not empty" in capsys.readouterr().err
