"""Learners and observers with networks, and exports. They need the extras `torch` and `data`, and
`.ci/run` has an environment of their own for them: elsewhere they are not collected."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

if find_spec("torch") is None:
    collect_ignore_glob = ["test_*.py"]
elif not all(map(find_spec, ("pyarrow", "minari", "h5py"))):
    collect_ignore = ["test_observation_export.py"]


@pytest.fixture(autouse=True)
def _one_thread():
    """Small networks are slower on several threads; results must not depend on them."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
