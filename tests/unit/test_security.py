"""What others may have written is told apart before it is used; what is secret is shown nowhere."""

import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import tracemalloc

import numcodecs
import numpy as np
import pytest
import zarr
from click.testing import CliRunner
from runs import blobs, config, config_file, dataset, snapshot, store

from distem._text import printable
from distem.cli import main
from distem.config import load
from distem.data.folder import MOST_TEXT
from distem.data.open import open_source
from distem.data.results import write_group
from distem.data.safety import _unfolded, refuse_code
from distem.errors import ConfigError, DataError
from distem.fitted import FittedModel
from distem.report.reading import GROUPS, read
from distem.run import run

CANARY = "canary-91c4e"


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("security")
    store(folder / "data.zarr", blobs(200))
    run(config(folder, fit__max_passes=2, output__report=False))
    return folder


# addresses


@pytest.mark.parametrize("address", ["0.0.0.0:8787", ":8787", "10.0.0.7:0", "node7:8787"])
def test_a_dashboard_beyond_this_machine_has_to_be_asked_for(tmp_path, address):
    path = config_file(tmp_path, cluster={"kind": "local", "dashboard_address": address})
    with pytest.raises(ConfigError, match="--insecure"):
        load(path)
    assert load(path, ["cluster.insecure=true"]).cluster.dashboard_address == address


@pytest.mark.parametrize(
    "url",
    [
        "ssh://host/x",
        "github://a:b@c/x",
        "simplecache::s3://b/x",
        "zip://a::http://b",
        "file:///etc",
        "S4://x",
    ],
)
def test_urls_of_other_kinds_are_refused(url):
    with pytest.raises(ConfigError, match="can be a local path, or one of s3://"):
        open_source("zarr", url)


def test_a_scheme_from_the_environment_is_refused_too(tmp_path, monkeypatch):
    monkeypatch.setenv("T_PLACE", "ssh://host/data.zarr")
    path = config_file(tmp_path, data__path="${env:T_PLACE}")
    result = CliRunner().invoke(main, ["run", str(path)])
    assert result.exit_code == 2
    assert "host" not in result.stderr


# what somebody else wrote


def test_pickles_are_refused_before_they_are_read():
    metadata = zarr.create_array(zarr.storage.MemoryStore(), shape=(2,), dtype="f8", zarr_format=2).metadata
    object.__setattr__(metadata, "filters", (numcodecs.Pickle(),))
    with pytest.raises(DataError, match="'x' in here is stored as Python pickles"):
        refuse_code("x", metadata, "here")


class Touch:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_pickled_store_runs_nothing(tmp_path):
    path = store(tmp_path / "data.zarr", dataset(blobs(20)), chunks=20)
    shutil.rmtree(path)
    group = zarr.open_group(path, mode="w", zarr_format=2)
    group.create_array("a", shape=(20,), chunks=(20,), dtype="f8")
    about = path / "a" / ".zarray"
    facts = json.loads(about.read_text(encoding="utf-8"))
    about.write_text(json.dumps(facts | {"dtype": "|O", "filters": [{"id": "pickle"}], "fill_value": 0}))
    (path / "a" / "0").write_bytes(pickle.dumps(Touch(tmp_path / "ran")))
    with pytest.raises((DataError, ConfigError)):
        open_source("zarr", str(path)).blocks()[0].load()
    assert not (tmp_path / "ran").exists()


def changed(folder, to, name, change):
    """A copy of the model with the description of one array changed."""
    shutil.copytree(folder / "run", to)
    about = to / "result.zarr" / "model" / name / "zarr.json"
    facts = json.loads(about.read_text(encoding="utf-8"))
    change(facts)
    about.write_text(json.dumps(facts), encoding="utf-8")
    return to


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.update(shape=[10**12, 3]), "claims"),
        (lambda f: f["chunk_grid"]["configuration"].update(chunk_shape=[10**9, 10**9]), "claims"),
        (lambda f: f.update(shape=[-1, 3]), "has the shape"),
        (lambda f: f.update(data_type="object"), "is of object"),
        (lambda f: f.update(data_type={"name": "r8"}), "is of"),
        (lambda f: f.update(codecs=[{"name": "numcodecs.pickle"}]), "numcodecs.pickle"),
        (lambda f: f.pop("shape"), "as no array is"),
    ],
    ids=["shape", "chunks", "negative", "object", "raw", "pickle", "none"],
)
def test_hostile_models_are_refused(done, tmp_path, change, words):
    with pytest.raises(DataError, match=words):
        FittedModel.load(changed(done, tmp_path / "model", "means", change))


def test_deep_descriptions_are_refused(done, tmp_path):
    shutil.copytree(done / "run", tmp_path / "model")
    about = tmp_path / "model" / "result.zarr" / "model" / "means" / "zarr.json"
    about.write_text("[" * 200_000, encoding="utf-8")
    with pytest.raises(DataError, match="cannot be read"):
        FittedModel.load(tmp_path / "model")


def test_a_bomb_is_refused_in_bounded_memory(done, tmp_path):
    shutil.copytree(done / "run", tmp_path / "model")
    chunks = tmp_path / "model" / "result.zarr" / "model" / "means" / "c"
    chunk = next(p for p in chunks.rglob("*") if p.is_file())
    bomb = numcodecs.Zstd(level=1).encode(np.zeros(1 << 28, np.uint8))
    chunk.write_bytes(bytes(bomb))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="unfolds to"):
            FittedModel.load(tmp_path / "model")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 24


@pytest.fixture
def theirs(done, tmp_path):
    """A complete run that came from somewhere."""
    shutil.copytree(done / "run", tmp_path / "theirs")
    return tmp_path / "theirs"


def refused(done, theirs, code, *words):
    """Neither the report nor a comparison takes it, and both say why in a sentence."""
    for arguments in (["report", theirs], ["compare", done / "run", theirs]):
        result = CliRunner().invoke(main, [*map(str, arguments)])
        assert result.exit_code == code, result.output
        assert all(word in result.stderr for word in words), result.stderr


@pytest.mark.parametrize("name", ["manifest.json", "config.yaml"])
def test_files_that_are_read_whole_have_a_limit(done, theirs, name):
    os.truncate(theirs / name, MOST_TEXT + 1)
    refused(done, theirs, 2, name, f"more than the {MOST_TEXT:,} bytes")


@pytest.mark.parametrize("text", ["[" * 200_000, '{"a":' * 200_000, f"[{'1' * 10_000}]"], ids=len)
def test_manifests_that_break_a_reader_are_none(done, theirs, text):
    (theirs / "manifest.json").write_text(text, encoding="utf-8")
    refused(done, theirs, 2, "is not a manifest")


def test_a_log_of_any_length_is_read_in_little_memory(theirs):
    told = read(theirs).events
    log = theirs / "log.jsonl"
    text = log.read_text(encoding="utf-8")
    with log.open("w", encoding="utf-8") as file:
        for _ in range(MOST_TEXT >> 20):
            file.write("x" * (1 << 20))
        file.write("\n" + "[" * 200_000 + "\n" + '{"event": "pass"}\n' * 100_000 + text)
    tracemalloc.start()
    assert read(theirs).events == told != ()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 << 20


@pytest.mark.parametrize("group", GROUPS)
def test_each_group_is_looked_at_before_it_is_read(done, theirs, group):
    about = next((theirs / "result.zarr" / group).glob("*/zarr.json"))
    facts = json.loads(about.read_text(encoding="utf-8"))
    facts["shape"] = [10**12 for _ in facts["shape"]]
    about.write_text(json.dumps(facts), encoding="utf-8")
    refused(done, theirs, 3, "claims", f"'{about.parent.name}'")


@pytest.mark.parametrize(
    ("add", "words"),
    [
        (
            {"codecs": [{"name": "bytes"}, *2 * [{"name": "zstd", "configuration": {"level": 1}}]]},
            "zstd, zstd",
        ),
        ({"attributes": {"deep": 0}}, "cannot be read"),
    ],
    ids=["twice", "deep"],
)
def test_further_groups_are_too(theirs, add, words):
    write_group(str(theirs / "result.zarr"), "picture", dataset(blobs(3)))
    about = theirs / "result.zarr" / "picture" / ("a/zarr.json" if "codecs" in add else "zarr.json")
    facts = json.loads(about.read_text(encoding="utf-8")) | add
    about.write_text(json.dumps(facts).replace('"deep": 0', f'"deep": {"[" * 200_000}'), encoding="utf-8")
    result = CliRunner().invoke(main, ["report", str(theirs)])
    assert result.exit_code == 3, result.output
    assert words in result.stderr


def test_coordinates_of_an_assignment_are_not_decoded_on_trust(tmp_path):
    """They would be where it is opened, though only a part of it is drawn."""
    columns = {"lat": np.arange(8.0), "lon": np.arange(8.0)}
    store(tmp_path / "data.zarr", dataset(blobs(64).reshape(8, 8, 3), ("lat", "lon")).assign_coords(columns))
    run(config(tmp_path, fit__max_passes=2))
    chunks = tmp_path / "run" / "result.zarr" / "assignment" / "lat" / "c"
    chunk = next(p for p in chunks.rglob("*") if p.is_file())
    chunk.write_bytes(bytes(numcodecs.Zstd(level=1).encode(np.zeros(1 << 28, np.uint8))))
    result = CliRunner().invoke(main, ["report", str(tmp_path / "run")])
    assert result.exit_code == 0, result.output
    with read(tmp_path / "run").opened("assignment", decode_times=False) as held:
        assert "lon" in held.coords
        assert "lat" not in held.coords


def test_a_model_that_tells_too_deep_a_tale_of_its_data(done, theirs):
    zarr.open_group(theirs / "result.zarr" / "model", mode="r+").attrs["source"] = "[" * 200_000
    result = CliRunner().invoke(main, ["compare", str(done / "run"), str(theirs)])
    assert result.exit_code == 3, result.output
    assert "cannot be read: RecursionError" in result.stderr


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 65_791, 65_792, 1 << 20])
def test_sizes_that_frames_declare(size):
    frame = bytes(numcodecs.Zstd(level=1).encode(np.zeros(size, np.uint8))) if size else b""
    if size:
        assert _unfolded(frame[:18]) == size


@pytest.mark.parametrize("name", ["../x", "a/b", "/x", "..", ".", "", "a" * 65, "a\nb"])
def test_groups_lie_in_the_result(tmp_path, name):
    with pytest.raises(ConfigError, match="cannot be the name of a group"):
        write_group(str(tmp_path / "result.zarr"), name, dataset(blobs(3)))
    assert list(tmp_path.iterdir()) == []


# what comes from data, on a screen


@pytest.mark.parametrize("text", ["\x1b[2Jgone", "a\rb", "bell\x07", "\x9b31m", "right\u202eleft"])
def test_control_characters_are_written_out(text):
    shown = printable(text)
    assert shown.isascii() or "\x1b" not in shown
    assert all(char.isprintable() for char in shown)
    assert printable("two\nlines\tand a tab") == "two\nlines\tand a tab"


def test_names_from_data_do_not_reach_the_terminal_as_they_are(tmp_path):
    data = dataset(blobs(30)).rename({"a": "\x1b[2J\x1b]0;mine\x07"})
    store(tmp_path / "data.zarr", data)
    path = config_file(tmp_path, data__features=["nothing"])
    result = CliRunner().invoke(main, ["run", str(path)])
    assert result.exit_code == 3
    assert "\x1b" not in result.stderr
    assert "\\x1b[2J" in result.stderr


# what is secret


@pytest.mark.parametrize("debug", [[], ["--debug"]], ids=["", "debug"])
def test_secrets_are_in_no_output(tmp_path, monkeypatch, debug):
    """Grep everything that a run leaves or says: one that fails at the store, and one that completes."""
    monkeypatch.setenv("T_KEY", f"{CANARY}-key")
    monkeypatch.setenv("T_PLACE", str(tmp_path / f"{CANARY}-place"))
    store(tmp_path / f"{CANARY}-place", blobs(100))
    good = config_file(tmp_path, "good.yaml", data__path="${env:T_PLACE}", output__report=True)
    bad = config_file(
        tmp_path,
        "bad.yaml",
        data={
            "kind": "zarr",
            "path": "s3://bucket/data.zarr",
            "storage_options": {
                "key": "me",
                "secret": "${env:T_KEY}",
                "endpoint_url": "http://127.0.0.1:9",
                "config_kwargs": {"retries": {"max_attempts": 1}, "connect_timeout": 1},
            },
        },
        output__path="bad",
    )
    said = io.StringIO()
    for path in (good, bad):
        result = CliRunner().invoke(main, ["run", str(path), *debug])
        said.write(result.stdout + result.stderr)
    assert CANARY not in said.getvalue()
    found = snapshot(tmp_path / "run")
    assert "report.html" in found
    for name, content in found.items():
        assert CANARY.encode() not in content, name
        assert CANARY not in name


def test_a_local_cluster_listens_on_this_machine_only(tmp_path):
    script = (
        "import psutil, distem.execution.dask as d\n"
        "with d.local(1, dashboard_address='127.0.0.1:0') as e:\n"
        "    mine = [psutil.Process(), *psutil.Process().children(recursive=True)]\n"
        "    print({c.laddr.ip for p in mine for c in p.net_connections() if c.status == 'LISTEN'})\n"
    )
    script = f"if __name__ == '__main__':\n{''.join('    ' + line for line in script.splitlines(True))}"
    (tmp_path / "listen.py").write_text(script, encoding="utf-8")
    told = subprocess.run(
        [sys.executable, str(tmp_path / "listen.py")], capture_output=True, text=True, timeout=60
    )
    assert told.stdout.strip() == "{'127.0.0.1'}", told.stderr
