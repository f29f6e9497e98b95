"""A run folder in an object store: the same bits, one writer, and what is there can be read again."""

import json

import pytest
from click.testing import CliRunner
from runs import assert_same_bits, blobs, config, small_blocks, store

from distem.cli import main
from distem.data import object_store, results
from distem.data.object_store import RemoteStore, fetch
from distem.data.remote_folder import run_folder
from distem.errors import AlreadyRunning, ConfigError, DataError, Interrupted, RunFolderError, StoreError
from distem.fitted import FittedModel
from distem.report.draw import draw_in
from distem.report.reading import read
from distem.run import run

memory_store = pytest.importorskip("obstore.store").MemoryStore
URL = "s3://night/run"


@pytest.fixture
def bucket(monkeypatch):
    """Object stores in memory, one for each URL that is opened."""
    kept = {}

    def objects(url, *, brief=False):
        return kept.setdefault(url, memory_store())

    for module in (object_store, results):
        monkeypatch.setattr(module, "objects", objects)
    return kept


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """Data, and the undisturbed run of it in a folder."""
    folder = tmp_path_factory.mktemp("local")
    store(folder / "data.zarr", blobs())
    with small_blocks():
        run(config(folder))
    return folder


def remote(folder, **changes):
    return config(folder, output__path=URL, **changes)


def same_bits(tmp_path, local):
    assert fetch(f"{URL}/result.zarr", tmp_path / "got" / "result.zarr", 1 << 30)
    assert_same_bits(tmp_path / "got", local / "run")


def test_killed_and_gone_on_with_it_has_the_bits_of_a_local_run(bucket, local, tmp_path, monkeypatch):
    monkeypatch.setattr("distem.stages.CHECKPOINT_SECONDS", 0.0)
    seen = []

    def stop(event):
        seen.append(event)
        if getattr(event, "pass_", 0) == 4:
            raise Interrupted("Enough.")

    with small_blocks():
        with pytest.raises(Interrupted):
            run(remote(local), observers=(stop,))
        at = RemoteStore(bucket[URL], URL)
        assert json.loads(at.get("manifest.json")[0])["status"] == "interrupted"
        assert at.has("checkpoint.zarr/head.json")
        assert json.loads(at.get(".lease")[0])["released"] is True
        done = run(remote(local))
    assert done.run == URL
    same_bits(tmp_path, local)
    assert at.names("") == [".lease", "config.yaml", "log.jsonl", "manifest.json"]
    passes = [e["pass"] for e in map(json.loads, at.get("log.jsonl")[0].splitlines()) if e["event"] == "pass"]
    assert passes == [1, 2, 3, *range(5, 13)]  # what stopped it heard of pass 4 before the log
    assert read(URL).k == 3
    assert [e["phase"] for e in read(URL).events if e["event"] == "phase"][-1] == "finalise"
    assert FittedModel.load(URL).k == 3
    compared = CliRunner().invoke(main, ["compare", URL, str(local / "run"), "--fail-over", "1e-6"])
    assert compared.exit_code == 0, compared.output


def test_a_group_that_is_too_large_is_refused_before_it_is_fetched(bucket, local, monkeypatch):
    with small_blocks():
        run(remote(local))
    monkeypatch.setattr("distem.data.results.MOST_GROUP_BYTES", 1000)
    with pytest.raises(DataError, match="more than the 1,000 it can"):
        read(URL)


def test_the_report_says_where_the_config_lies_that_runs_it_again(bucket, local, tmp_path):
    run(remote(local))
    with run_folder(URL) as folder:
        draw_in(folder)
        page, text = folder.read("report.html"), folder.read("config.yaml")
        began = folder.read("log.jsonl").partition("\n")[0]
        assert f"{URL}/config.yaml" in page
        assert "distem run config.yaml --fresh" in page
        (tmp_path / "config.yaml").write_text(text)
        done = CliRunner().invoke(main, ["run", str(tmp_path / "config.yaml"), "--fresh"])
        assert done.exit_code == 0, done.output
        assert folder.read("log.jsonl").partition("\n")[0] != began


def test_blocks_that_are_written_are_not_written_again(bucket, local, tmp_path, monkeypatch):
    from distem.data.assignment import AssignmentWriter

    write, count = AssignmentWriter.write, []

    def some(self, chunks, *args, **more):
        count.append(chunks)
        if len(count) == 4:
            raise StoreError("The store was lost.")
        return write(self, chunks, *args, **more)

    monkeypatch.setattr(AssignmentWriter, "write", some)
    with small_blocks():
        with pytest.raises(StoreError):
            run(remote(local))
        run(remote(local))
    assert len(count) == 4 + 1  # of four blocks three were there
    same_bits(tmp_path, local)


def test_one_writer(bucket, local):
    with run_folder(URL) as folder, folder.lock(), pytest.raises(AlreadyRunning, match="already running, by"):
        run(remote(local))


def test_a_prefix_that_holds_something_else_is_left_alone(bucket, local):
    RemoteStore(bucket.setdefault(URL, memory_store()), URL).put("notes.txt", b"mine")
    with pytest.raises(RunFolderError, match=r"it holds notes\.txt"):
        run(remote(local))
    assert RemoteStore(bucket[URL], URL).names("") == ["notes.txt"]


@pytest.mark.parametrize("url", ["gs://night/run", "s3://night/../run", "s3://", "http://x/run"])
def test_other_places_are_refused(local, url):
    with pytest.raises(ConfigError, match="A run folder cannot be at"):
        run(config(local, output__path=url))


def test_the_assignment_of_new_data_is_written_to_folders(local):
    words = ["predict", str(local / "run"), str(local / "data.zarr"), "-o", "s3://night/out"]
    done = CliRunner().invoke(main, words)
    assert (done.exit_code, "local paths" in done.output) == (2, True)


class Lossy:
    """A store whose answers to some puts are lost: done, or not done at all."""

    def __init__(self, store, answers):
        self.store, self.answers = store, list(answers)

    def put(self, name, data, **how):
        from obstore.exceptions import GenericError

        answer = self.answers.pop(0) if self.answers else "whole"
        if answer != "refused":
            done = self.store.put(name, data, **how)
        if answer != "whole":
            raise GenericError("connection closed")
        return done

    def __getattr__(self, name):
        return getattr(self.store, name)


@pytest.mark.parametrize("answers", [["lost"], ["refused"], ["refused", "lost"]])
def test_a_put_without_an_answer_is_looked_for_and_tried_again(answers):
    held = memory_store()
    store = RemoteStore(Lossy(held, answers), URL, quick=held)
    assert store.get("x") is None  # the server is there
    version = store.create("x", b"mine")
    assert store.get("x") == (b"mine", version)
    store = RemoteStore(Lossy(held, answers), URL, quick=held)
    assert store.get("x") is not None
    assert store.swap("x", b"more", version) is not None
    assert store.create("x", b"theirs") is None


def test_a_server_that_was_lost_is_asked_once_until_it_answers():
    from obstore.exceptions import GenericError

    class Gone:
        def get(self, name):
            raise GenericError("gone")

    held = memory_store()
    store = RemoteStore(Gone(), URL, quick=held)
    assert store.get("x") is None  # the quick one is first
    with pytest.raises(StoreError, match="could not be reached: gone"):
        store.get("x")
    assert store.get("x") is None
