"""Files that anybody may have made: an error that names the file, or the content that was written;
never code that runs, memory that fills, or another exception.
"""

from __future__ import annotations

import io
import pickle
import threading
import time
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from npz_made import Exploit, archive_of, header, members_of, npy_bytes

from malfl_algos.ground_truth import GroundTruth
from malfl_algos.storage.arrays import array_names, read_arrays, read_npz, write_arrays
from malfl_algos.trace import LearningTrace, NextStateCounts, Stage, Transitions


def small_trace() -> LearningTrace:
    rng = np.random.default_rng(0)
    stages = []
    for _ in range(2):
        path = rng.integers(0, 4, 13).astype(np.uint8)
        states, after = path[:-1], path[1:]
        actions = rng.integers(0, 2, (12, 2)).astype(np.uint8)
        counts = np.zeros((4, 2, 2), dtype=np.int64)
        np.add.at(counts, (states, actions[:, 0], actions[:, 1]), 1)
        rows = states.astype(np.int64) * 4 + actions[:, 0] * 2 + actions[:, 1]
        seen = NextStateCounts(rows, after.astype(np.int64), np.ones(12, dtype=np.int64))
        ends = np.zeros(12, dtype=bool)
        stages.append(Stage(counts, seen, Transitions(states, actions, after, ends, complete=True)))
    return LearningTrace(tuple(stages))


def small_truth() -> GroundTruth:
    rewards = {"agent_0": np.arange(4.0), "agent_1": np.ones((4, 2, 2))}
    return GroundTruth(rewards, {agent: np.full((2, 4, 2), 0.5) for agent in rewards})


def arrays_of(item: LearningTrace | GroundTruth, place: Path) -> dict[str, bytes]:
    item.save(place)
    return {
        name: repr((array.dtype, array.shape)).encode() + array.tobytes()
        for name, array in read_npz(place).items()
    }


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    place = tmp_path_factory.mktemp("saved")
    small_trace().save(place / "trace")
    small_truth().save(place / "truth")
    return {name: (place / name).read_bytes() for name in ("trace", "truth")}


LOADERS = {"trace": LearningTrace.load, "truth": GroundTruth.load}


def load_or_refuse(kind: str, content: bytes, place: Path) -> LearningTrace | GroundTruth | None:
    """What is loaded; None where it is refused, which must name the file."""
    path = place / "hostile.npz"
    path.write_bytes(content)
    try:
        return LOADERS[kind](path)
    except ValueError as fault:
        said = str(fault)
    assert str(path) in said
    assert len(said) < 1500
    return None


@pytest.mark.filterwarnings("error")
@given(content=st.binary(max_size=300), zipped=st.booleans())
def test_any_bytes_are_refused_by_name(tmp_path: Path, content: bytes, zipped: bool) -> None:
    if zipped:
        content = archive_of({"joint_counts.npy": content, "manifest.npy": content})
    for kind in LOADERS:
        assert load_or_refuse(kind, content, tmp_path) is None


@st.composite
def damages(draw: st.DrawFn) -> list[tuple[str, float, int]]:
    kinds = st.sampled_from(["flip", "cut", "insert", "repeat", "zero"])
    place = st.floats(0, 1, exclude_max=True)
    return draw(st.lists(st.tuples(kinds, place, st.integers(0, 255)), min_size=1, max_size=3))


def damage(content: bytes, how: list[tuple[str, float, int]]) -> bytes:
    spoilt = bytearray(content)
    for kind, share, value in how:
        place = int(share * len(spoilt))
        if kind == "flip" and spoilt:
            spoilt[place] ^= 1 << value % 8
        elif kind == "cut":
            del spoilt[place:]
        elif kind == "insert":
            spoilt[place:place] = bytes([value])
        elif kind == "repeat":
            spoilt[place:place] = spoilt[place : place + value]
        else:
            spoilt[place : place + value] = bytes(len(spoilt[place : place + value]))
    return bytes(spoilt)


@pytest.mark.filterwarnings("error")
@given(kind=st.sampled_from(sorted(LOADERS)), how=damages())
def test_a_damaged_file_is_refused_or_the_same(
    tmp_path: Path, saved: dict[str, bytes], kind: str, how: list[tuple[str, float, int]]
) -> None:
    loaded = load_or_refuse(kind, damage(saved[kind], how), tmp_path)
    if loaded is not None:
        item = small_trace() if kind == "trace" else small_truth()
        again = arrays_of(loaded, tmp_path / "again.npz")
        assert again == arrays_of(item, tmp_path / "first.npz")


@pytest.mark.filterwarnings("error")
@given(data=st.data())
def test_swapped_members_give_an_error_or_a_sound_trace(
    tmp_path: Path, saved: dict[str, bytes], data: st.DataObject
) -> None:
    kind = data.draw(st.sampled_from(sorted(LOADERS)))
    members = members_of(saved[kind])
    names = list(members)
    swapped = dict(zip(data.draw(st.permutations(names)), members.values(), strict=True))
    for name in data.draw(st.lists(st.sampled_from(names), max_size=1)):
        del swapped[name]
    loaded = load_or_refuse(kind, archive_of(swapped), tmp_path)
    if loaded is not None:  # then it passes as one that was written
        loaded.save(tmp_path / "again.npz")
        LOADERS[kind](tmp_path / "again.npz")


@pytest.mark.parametrize(
    "name",
    [
        "../x.npy",
        "/etc/x.npy",
        "a/../../x.npy",
        "a//b.npy",
        "C:\\x.npy",
        "./x.npy",
        "x\n.npy",
        ".npy",
    ],
)
def test_names_like_paths_are_refused(tmp_path: Path, saved: dict[str, bytes], name: str) -> None:
    members = members_of(saved["truth"])
    content = archive_of({**members, name: members["reward/agent_0.npy"]})
    assert load_or_refuse("truth", content, tmp_path / ".") is None
    with pytest.raises(ValueError, match="lead out of the archive"):
        write_arrays(tmp_path / "out.npz", {name.removesuffix(".npy"): np.zeros(2)})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hostile.npz"]


def test_a_member_that_stands_twice_is_refused(tmp_path: Path, saved: dict[str, bytes]) -> None:
    buffer = io.BytesIO(saved["truth"])
    with zipfile.ZipFile(buffer, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("reward/agent_0.npy", npy_bytes(np.zeros(4)))
    assert load_or_refuse("truth", buffer.getvalue(), tmp_path) is None


HEADER = "{{'descr': {}, 'fortran_order': False, 'shape': {}}}\n"
BAD_MEMBERS = {
    "pickle": npy_bytes(np.array([Exploit()], dtype=object)),
    "bare pickle": pickle.dumps(Exploit()),
    "huge shape": header(HEADER.format("'<f8'", (10**6, 10**6, 10**6)), body=bytes(64)),
    "huge digits": header(HEADER.format("'<f8'", "(" + "9" * 5000 + ",)"), body=bytes(64)),
    "overflow": header(HEADER.format("'<f8'", (2**61, 8)), body=b""),
    "negative": header(HEADER.format("'<f8'", (-1, -8)), body=bytes(64)),
    "truth for a size": header(HEADER.format("'<f8'", "(True, 8)"), body=bytes(64)),
    "too many axes": header(HEADER.format("'<f8'", (1,) * 70), body=bytes(8)),
    "no bytes": header(HEADER.format("'<f8'", (8,))),
    "more bytes": header(HEADER.format("'<f8'", (8,)), body=bytes(65)),
    "code": header(HEADER.format("__import__('os').system('touch pwned')", (8,)), body=bytes(64)),
    "deep": header("(" * 9000, (2, 0)),
    "long": header("[" + "0," * 200_000 + "]", (2, 0)),
    "structured": npy_bytes(np.zeros(3, dtype=[("a", "<f8"), ("b", "<i8")])),
    "text": npy_bytes(np.array(["a", "b"])),
    "complex": npy_bytes(np.zeros(3, dtype=complex)),
    "dates": npy_bytes(np.zeros(3, dtype="M8[s]")),
    "no truth": header(HEADER.format("'|b1'", (4,)), body=b"\x00\x01\x02\xff"),
    "version": header(HEADER.format("'<f8'", (0,)), (9, 9)),
    "old python": header(HEADER.format("'<f8'", "(8L,)"), body=bytes(64)),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", BAD_MEMBERS)
def test_members_that_are_no_arrays_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        path = tmp_path / "bad.npz"
        path.write_bytes(archive_of({"a.npy": BAD_MEMBERS[kind]}, compression))
        with pytest.raises(ValueError, match=r"bad\.npz: not a readable npz"):
            read_arrays(path)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("dtype", [">f8", "<f4", ">i4", ">u2", "?"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_other_layouts_are_the_same_content(tmp_path: Path, dtype: str, order: str) -> None:
    array = np.asarray(np.arange(12).reshape(3, 4) % 2, dtype=dtype, order=order)
    (tmp_path / "a.npz").write_bytes(archive_of({"a.npy": npy_bytes(array)}))
    read = read_arrays(tmp_path / "a.npz")[0]["a"]
    np.testing.assert_array_equal(read, array)
    assert all((read.dtype.isnative, read.flags.c_contiguous, read.flags.writeable))


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_refused(tmp_path: Path, compression: int) -> None:
    (tmp_path / "a.npz").write_bytes(archive_of({"a.npy": npy_bytes(np.zeros(9))}, compression))
    for read in (read_npz, array_names):
        with pytest.raises(ValueError, match="has a compression that"):
            read(tmp_path / "a.npz")


@pytest.mark.parametrize("name", ["file", "allow_pickle", "arr_0", "manifest.npy"])
def test_any_name_of_an_agent_can_be_written(tmp_path: Path, name: str) -> None:
    write_arrays(tmp_path / "a.npz", {name: np.arange(3.0), "b": np.zeros(0, dtype=bool)})
    read, _ = read_arrays(tmp_path / "a.npz")
    assert list(read) == [name, "b"]
    np.testing.assert_array_equal(read[name], np.arange(3.0))


def test_an_archive_of_many_members_is_refused_before_they_are_read(tmp_path: Path) -> None:
    content = archive_of({f"{number}.npy": b"" for number in range(2**16 + 1)})
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(ValueError, match="has 65537 members, at most 65536 are allowed"):
        array_names(tmp_path / "a.npz")


def test_reading_leaves_the_warnings_of_other_threads_alone(tmp_path: Path) -> None:
    write_arrays(tmp_path / "a.npz", {"a": np.zeros((200, 200))})
    before, seen, over = list(warnings.filters), [], threading.Event()

    def watch() -> None:
        while not over.is_set():
            seen.append(list(warnings.filters) == before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    readers = [
        threading.Thread(target=lambda: [read_npz(tmp_path / "a.npz") for _ in range(50)])
        for _ in range(2)
    ]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    over.set()
    watcher.join()
    assert len(seen) > 10
    assert all(seen)
    assert list(warnings.filters) == before


@pytest.mark.parametrize("order", ["<", ">"])
def test_code_points_beyond_unicode_are_refused(tmp_path: Path, order: str) -> None:
    """NumPy makes such text, and Python raises a SystemError when it is read."""
    text = f"{{'descr': '{order}U1', 'fortran_order': False, 'shape': (), }}\n"
    body = np.array(0x7FFFFFFF, dtype=f"{order}u4").tobytes()
    members = {"joint_counts.npy": npy_bytes(np.ones((2, 4, 5, 5), dtype=np.int64))}
    content = archive_of({**members, "manifest.npy": header(text, body=body)})
    (tmp_path / "t.npz").write_bytes(content)
    with pytest.raises(ValueError, match="code points beyond those of Unicode"):
        LearningTrace.load(tmp_path / "t.npz")


def test_a_trace_of_many_stages_is_read_in_linear_time(tmp_path: Path) -> None:
    """Each stage looked at all members, so that 20,000 took minutes."""
    n = 6000
    seen = NextStateCounts(np.array([0]), np.array([0]), np.array([1]))
    counts = np.zeros((1, 2), dtype=np.int64)
    counts[0, 0] = 1
    LearningTrace((Stage(counts, seen),) * n).save(tmp_path / "t.npz")
    started = time.monotonic()
    assert LearningTrace.load(tmp_path / "t.npz").n_stages == n
    assert time.monotonic() - started < 20
