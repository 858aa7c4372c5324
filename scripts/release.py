"""Builds what is uploaded: `python scripts/release.py --output-dir dist [--address URL]`.

From the last commit alone: the sdist of malfl-env, and the wheels of malfl-env and of the plugins
beside it. Two builds of one commit are the same bytes. `--address`, where the repository is
published, makes the links of every README absolute and becomes the project's URLs; an index shows
README outside the repository, so a release needs it. Needs `pip install --group release`.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from configparser import ConfigParser
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from posixpath import normpath

ROOT = Path(__file__).parents[1]
PLUGINS = ("plugins/malfl-sb3", "plugins/malfl-example")
LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^]]*)\]\((?P<target>[^)\s]+)\)")


def main(argv: Sequence[str] | None = None) -> int:
    """Build, check and list the distributions. Returns 0; 2 for bad input."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--output-dir", type=Path, default=Path("dist"), help="a new or empty folder"
    )
    parser.add_argument("--address", help="https address of the repository, without a / at its end")
    given = parser.parse_args(argv)
    if given.address is not None and not re.fullmatch(r"https://\S+[^/\s]", given.address):
        parser.error(f"--address must be https://... without a / at its end, got {given.address!r}")
    if given.output_dir.exists() and any(given.output_dir.iterdir()):
        parser.error(f"{given.output_dir} is not empty: name a new folder")
    if missing := [name for name in ("build", "twine") if find_spec(name) is None]:
        parser.error(f"{' and '.join(missing)} missing: pip install --group release")
    time = _git("log", "-1", "--format=%ct").decode().strip()
    with tempfile.TemporaryDirectory() as place:
        source = Path(place)
        _git("clone", "--quiet", "--no-hardlinks", str(ROOT), place)
        if given.address is not None:
            _give_address(source, given.address)
        for folder, kind in [(".", ()), *((plugin, ("--wheel",)) for plugin in PLUGINS)]:
            options = [*kind, "--outdir", str(given.output_dir), str(source / folder)]
            _python("build", *options, SOURCE_DATE_EPOCH=time)
    for path in given.output_dir.glob("*.tar.gz"):
        path.write_bytes(same_bytes(path.read_bytes(), int(time)))
    made = sorted(given.output_dir.iterdir())
    _python("twine", "check", "--strict", *map(str, made))
    for path in made:
        print(hashlib.sha256(path.read_bytes()).hexdigest(), path.name)
    return 0


def absolute_links(text: str, folder: str, address: str, tag: str) -> str:
    """Markdown whose relative links lead to the files of one tag.

    Args:
        text: Markdown.
        folder: of its file, relative to the repository's root.
        address: of the repository.
        tag: a tag of the repository.
    """

    def absolute(link: re.Match[str]) -> str:
        target = link["target"]
        if re.match(r"[a-z]+:|#", target):
            return link[0]
        path, mark, anchor = target.partition("#")
        view = "raw" if link["image"] else "blob"
        path = normpath(str(PurePosixPath(folder, path)))
        return f"{link['image']}[{link['text']}]({address}/{view}/{tag}/{path}{mark}{anchor})"

    return LINK.sub(absolute, text)


def same_bytes(archive: bytes, time: int) -> bytes:
    """A .tar.gz with the same files, without the times, owners and order of one machine.

    Args:
        archive: the .tar.gz.
        time: that all files get, in seconds since 1970.
    """
    plain = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(archive)) as old,
        tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for member in sorted(old.getmembers(), key=lambda member: member.name):
            member.mtime, member.uid, member.gid, member.uname, member.gname = time, 0, 0, "", ""
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            member.pax_headers = {}
            new.addfile(member, old.extractfile(member) if member.isfile() else None)
    return gzip.compress(plain.getvalue(), mtime=time)


def _give_address(source: Path, address: str) -> None:
    settings = ConfigParser()
    settings.read(source / "setup.cfg", encoding="utf-8")
    tag = "v" + settings["metadata"]["version"]
    for folder in (".", *PLUGINS):
        readme = source / folder / "README.md"
        text = absolute_links(readme.read_text(encoding="utf-8"), folder, address, tag)
        readme.write_text(text, encoding="utf-8")
    urls = {
        "Source": address,
        "Documentation": f"{address}/tree/{tag}/docs",
        "Changelog": f"{address}/blob/{tag}/CHANGELOG.md",
        "Issues": f"{address}/issues",
    }
    for folder in (".", "plugins/malfl-sb3"):
        path = source / folder / "setup.cfg"
        settings = ConfigParser(comment_prefixes=(";",), allow_no_value=True)
        settings.read(path, encoding="utf-8")
        lines = [settings["metadata"].get("project_urls", ""), *map(" = ".join, urls.items())]
        settings["metadata"]["project_urls"] = "\n".join(lines)
        with path.open("w", encoding="utf-8") as file:
            settings.write(file)


def _python(module: str, *arguments: str, **environment: str) -> None:
    """Run a module; standard output is for the list at the end."""
    command = [sys.executable, "-m", module, *arguments]
    subprocess.run(command, check=True, env={**os.environ, **environment}, stdout=sys.stderr)


def _git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, cwd=ROOT).stdout


if __name__ == "__main__":
    sys.exit(main())
