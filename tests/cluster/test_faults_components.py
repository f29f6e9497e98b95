"""Data that changes under a job."""

import contextlib
import os

import numpy as np
import pytest
import zarr
from harness import (
    THREADS,
    at_pass,
    end,
    log_of,
    row,
    until,
)
from runs import assert_same_bits, blobs, command, config_file, start

pytestmark = [pytest.mark.cluster, pytest.mark.slow_cluster, pytest.mark.timeout(600)]


def plain_store(path):
    """Neither compressed nor summed: a flipped bit is another value."""
    group, values = zarr.open_group(path, mode="w"), np.tile(blobs(20_000, spread=3.0), (5, 1))
    for j, name in enumerate("abc"):
        array = group.create_array(
            name,
            shape=(len(values),),
            chunks=(10_000,),
            dtype="float64",
            dimension_names=("row",),
            compressors=None,
        )
        array[:] = values[:, j]
    return path


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A job on data without checksums, streamed, and its undisturbed result."""
    folder = tmp_path_factory.mktemp("plain")
    plain_store(folder / "data.zarr")
    options = {"model__components": 3, "fit__max_passes": 15, "fit__tolerance": 1e-14}
    options |= {"fit__acceleration": "none", "cluster": THREADS | {"resident": False}}
    done = command("run", config_file(folder, "good.yaml", **options, output__path="good"))
    assert done.returncode == 0, done.stderr
    return folder, options


@contextlib.contextmanager
def flipped(chunk, times=None):
    """A chunk with one bit turned, for a while."""
    whole, stat = chunk.read_bytes(), chunk.stat()
    with chunk.open("r+b") as file:
        file.seek(len(whole) // 2 + 6)
        file.write(bytes([whole[len(whole) // 2 + 6] ^ 0x10]))
    if times is not None:
        os.utime(chunk, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    try:
        yield
    finally:
        chunk.write_bytes(whole)
        os.utime(chunk, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_a_file_that_changes_between_passes(plain):
    folder, options = plain
    tally = row("a file of the input changes between passes")
    tally.tried += 1
    path = config_file(folder, "changed.yaml", **options, output__path="changed")
    process = start("run", path)
    until(lambda: any(map(at_pass(2), log_of(folder / "changed"))), "the second pass")
    with flipped(folder / "data.zarr" / "b" / "c" / "3"):
        code, err = end(process)
    assert code == 3, err
    assert "chunk 3 of 'b' was changed" in err
    assert "Traceback" not in err
    again = command("run", path)
    assert again.returncode == 0, again.stderr
    assert_same_bits(folder / "changed", folder / "good")
    tally.survived += 1


def test_a_bit_flipped_without_checksum_while_a_run_rests(plain):
    """Nothing in the store tells, not even the time of the file: the fingerprint does."""
    folder, options = plain
    tally = row("a bit flipped, no checksum, between kill and resumption")
    tally.tried += 1
    path = config_file(folder, "rest.yaml", **options, output__path="rest")
    process = start("run", path)
    until(lambda: any(map(at_pass(3), log_of(folder / "rest"))), "the third pass")
    end(process, kill=True)
    with flipped(folder / "data.zarr" / "b" / "c" / "3", times="kept"):
        done = command("run", path)
    assert done.returncode in (3, 4), (done.returncode, done.stderr)
    assert "Traceback" not in done.stderr
    again = command("run", path)
    assert again.returncode == 0, again.stderr
    assert_same_bits(folder / "rest", folder / "good")
    tally.survived += 1
