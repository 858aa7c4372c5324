"""Archives that lie about their size, or want too much: refused before they fill memory."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from npz_made import archive_of, header, npy_bytes

from malfl_algos.storage.arrays import read_arrays, write_arrays

HEADER = "{{'descr': {}, 'fortran_order': False, 'shape': {}}}\n"


def bombs() -> dict[str, tuple[bytes, str]]:
    """Small archives that want gigabytes, and what is said of them."""
    gigabyte = 2**30
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    start = header(HEADER.format("'|u1'", (3 * gigabyte,)))
    block = bytes(1 << 20)
    parts = [compressor.compress(start)]
    parts += [compressor.compress(block) for _ in range(64)]
    deflated = b"".join([*parts, compressor.flush()])
    inflated = len(start) + 64 * len(block)
    name = b"a.npy"

    def archive(size: int, copies: int = 1) -> bytes:
        local = struct.pack(
            "<4s5H3I2H", b"PK\x03\x04", 20, 0, 8, 0, 33, 0, len(deflated), size, 5, 0
        )
        body, directory = b"", b""
        for copy in range(copies):
            own = b"%c.npy" % (97 + copy)
            central = (20, 20, 0, 8, 0, 33, 0, len(deflated), size, 5, 0, 0, 0, 0, 0)
            directory += struct.pack("<4s6H3I5H2I", b"PK\x01\x02", *central, len(body)) + own
            body += local + own + deflated
        end = struct.pack(
            "<4s4H2IH", b"PK\x05\x06", 0, 0, copies, copies, len(directory), len(body), 0
        )
        return body + directory + end

    assert name in archive(inflated)
    return {
        "declares more than the limit": (archive(3 * gigabyte), "the limit is 2 GiB|declares"),
        "declares more than deflate gives": (archive(gigabyte), "can hold"),
        "says less than it inflates to": (archive(len(start) + 10), "CRC|declares"),
        "many large ones": (archive(inflated, 20), "declares"),
        "a header of gigabytes": (archive(inflated), "declares"),
    }


LIMITED = """
import resource, sys
from pathlib import Path
from malfl_algos.storage.arrays import read_arrays
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 200 * 2**20,) * 2)
for path in sys.argv[1:]:
    try:
        read_arrays(Path(path))
        print("read")
    except ValueError as fault:
        print(fault)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space as Linux does")
def test_archives_that_lie_are_refused_before_they_fill_memory(tmp_path: Path) -> None:
    cases = bombs()
    truthful = archive_of({"a.npy": npy_bytes(np.zeros(400 * 2**20, dtype=np.uint8))})
    cases["more than there is"] = (truthful, "do not fit in the available memory")
    paths = []
    for number, (content, _) in enumerate(cases.values()):
        paths.append(tmp_path / f"{number}.npz")
        paths[-1].write_bytes(content)
        assert len(content) < 3 * 2**20
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, *map(str, paths)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    for path, line, (_, said) in zip(paths, done.stdout.splitlines(), cases.values(), strict=True):
        assert str(path) in line
        assert any(words in line for words in said.split("|")), line


def test_the_limit_is_the_one_for_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.npz"
    write_arrays(path, {name: np.zeros(100) for name in "abc"})
    assert list(read_arrays(path)[0]) == ["a", "b", "c"]
    for limit, what in ((1000, "its arrays take"), (500, "array 'a' would take")):
        monkeypatch.setattr("malfl_env.checks.MAX_TABLE_BYTES", limit)
        with pytest.raises(ValueError, match=rf"a\.npz: .*{what}"):
            read_arrays(path)
