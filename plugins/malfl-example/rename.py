"""Rename a copy of this folder: python rename.py NAME, for example `python rename.py mine`.

`malfl-example` becomes `malfl-mine`, `example-npg` becomes `mine-npg`, `ExampleNpg` becomes
`MineNpg`. This script then deletes itself.
"""

import re
import sys
from pathlib import Path


def rename(folder: Path, name: str) -> None:
    """Replace the name in the files of a folder and in their file names."""
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        sys.exit(f"NAME must consist of lower-case letters, digits and hyphens, got {name!r}")
    words = {
        "malfl_example": f"malfl_{name.replace('-', '_')}",
        "malfl-example": f"malfl-{name}",
        "example-": f"{name}-",
        "Example": name.title().replace("-", ""),
    }
    for pattern in ("*.toml", "*.md", "*.py", "tests/*.py"):
        for path in folder.glob(pattern):
            if path == Path(__file__):
                continue
            text, file_name = path.read_text(encoding="utf-8"), path.name
            for old, new in words.items():
                text, file_name = text.replace(old, new), file_name.replace(old, new)
            path.write_text(text, encoding="utf-8")
            path.rename(path.with_name(file_name))
    print(f"renamed to malfl-{name}; next: pip install -e .")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python rename.py NAME")
    rename(Path(__file__).parent, sys.argv[1])
    Path(__file__).unlink()
