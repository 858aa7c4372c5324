"""A program in a Python process of its own."""

import os
import subprocess
import sys
from pathlib import Path


def printed(*lines: str, argv: tuple[str, ...] = (), **variables: str) -> str:
    """Standard output of a program of these lines. A nonzero exit status is an error.

    Args:
        lines: of the program.
        argv: its arguments.
        variables: changes to the environment.
    """
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines), *argv],
        cwd=Path(__file__).parents[2],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()
