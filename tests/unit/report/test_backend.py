"""Figures need no backend: a notebook's MPLBACKEND has no effect and stays unchanged."""

import os
import subprocess
import sys

import pytest

PROGRAM = (
    "import os, sys\n"
    "import malfl_algos.report.style\n"
    "import matplotlib\n"
    "print(os.environ['MPLBACKEND'], matplotlib.rcParams['figure.dpi'] > 0)\n"
)


@pytest.mark.parametrize("backend", ["module://no_such_package.backend_inline", "agg", "svg"])
def test_a_backend_that_is_not_installed_has_no_effect(backend):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "MPLBACKEND": backend},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{backend} True\n"
