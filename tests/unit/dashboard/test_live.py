"""What the scheduler remembers of a run, what it tells Prometheus, and what the driver sends."""

import json
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from distem.dashboard import attach, metrics, state
from distem.dashboard.figures import kind
from distem.dashboard.observer import MOST_BYTES, MOST_PASSES, ToScheduler, _size
from distem.dashboard.page import Page
from distem.dashboard.plugin import LivePage
from distem.dashboard.state import Runs, task_of
from distem.events import (
    WITHOUT,
    CandidateDone,
    CandidateDropped,
    Ended,
    PassDone,
    PassTimed,
    PhaseStarted,
    Picture,
    Planned,
    Shares,
    Warned,
)
from distem.sightings import SIDE, density, telling

TOKEN = "0a1b2c3d"
PLAN = Planned("gaussian_mixture", 1000, 3, 8, 4, 2, 2, 2, False, 4000, 1e-6, 100)


@pytest.fixture
def driven():
    """A driver's observer, the messages it sent, and the runs that took them in."""
    sent, runs = [], Runs()

    def send(message):
        sent.append(message)
        runs.take(100.0 + len(sent), message)

    begin = {"token": TOKEN, "client": "Client-1", "fresh": True}
    return ToScheduler(send, "id", "mine", begin, lambda text: text.replace("secret", "…")), sent, runs


def drive(observer, passes=3, seconds=1.0):
    for event in (PLAN, PhaseStarted("fit")):
        observer(event)
    for number in range(1, passes + 1):
        for name, behind in (("2-full-1", 0.5), ("3-full-1", 0.0)):
            observer(PassDone(number, name, -1.0 / number - behind, 0.1**number, True, seconds, 1000.0))
        observer(PassTimed(number, 2, seconds, 0.1))
        observer(Shares(number, "3-full-1", {"3-full-1": [0.2, 0.3, 0.5]}))


def test_a_run_as_the_scheduler_sees_it(driven):
    observer, _, runs = driven
    drive(observer)
    observer(Warned("A secret is odd."))
    observer(CandidateDone("3-full-1", 3, True, "Converged."))
    observer(CandidateDropped("2-full-1", 3, "Behind."))
    observer(Ended("complete", 12.0))
    run = runs.by_id["id"]
    assert (run.status, run.phase, run.best, run.passes) == ("complete", "fit", "3-full-1", 3)
    assert run.candidates["3-full-1"].passes == [1, 2, 3]
    assert run.candidates["2-full-1"].status == "dropped"
    assert run.shares["3-full-1"][-1] == (3, [0.2, 0.3, 0.5])
    assert list(run.said) == ["A … is odd."]
    assert run.totals["fit"].rows == 3000.0


def test_seconds_of_a_pass_are_split(driven):
    observer, _, runs = driven
    drive(observer, 0)
    run = runs.by_id["id"]
    run.task_expected("e-step", 7, 2)
    for worker in ("a", "b"):
        run.task_read(0.2, 500.0)
        run.task_done("e-step", 7, worker, 0.6, 0.05)
    run.fold({"event": "passes", "passes": [[1, {"f": [-1.0, None]}]], "count": 1, "seconds": 1.0,
              "step_seconds": 0.1, "rows": 1000.0})  # fmt: skip
    last = run.timings[-1]
    assert last["reading"] == pytest.approx(0.2)
    assert last["computing"] == pytest.approx(0.4)
    assert last["reducing"] == pytest.approx(0.15)
    assert last["waiting"] == pytest.approx(0.25)
    assert sum(last[part] for part in state.PARTS) == pytest.approx(last["seconds"])
    assert last["bytes_per_s"] == 1000.0
    assert (run.tasks.total, run.tasks.finished) == (2, 2)


def test_passes_told_at_once_share_what_tasks_did(driven):
    observer, sent, runs = driven
    drive(observer, 0)
    run = runs.by_id["id"]
    for _ in range(4):
        run.task_read(0.5, 100.0)
        run.task_done("e-step", 1, "a", 1.5, 0.0)
    before = len(sent)
    for number, seconds in ((1, 1.0), (2, 1.0), (3, 2.0)):
        observer(PassDone(number, "3-full-1", -1.0, None, True, seconds, 1000.0))
        observer(PassTimed(number, 1, seconds, 0.0))
        observer(Warned("Passes before it are told of by themselves."))
    observer(Ended("complete", 12.0))
    assert len(sent) == before + 1
    assert [point["pass"] for point in run.timings] == [1, 2, 3]
    assert [point["computing"] for point in run.timings] == pytest.approx([0.5, 0.5, 1.0])
    assert [point["reading"] for point in run.timings] == pytest.approx([0.25, 0.25, 0.5])
    assert [point["bytes_per_s"] for point in run.timings] == pytest.approx([100.0] * 3)


def test_tasks_that_are_done_are_no_tasks_of_a_pass(driven):
    """A graph names what it needs of earlier passes; what has to be loaded for it comes first."""
    observer, _, runs = driven
    drive(observer, 0)
    plugin = LivePage("1")
    plugin.runs = runs
    known = {f"load-{TOKEN}-1-{i}": SimpleNamespace(state="memory") for i in range(3)}
    keys = [*(f"e-step-{TOKEN}-2-{i}" for i in range(3)), *known]
    plugin.update_graph(SimpleNamespace(tasks=known), tasks=keys)
    tasks = runs.by_id["id"].tasks
    assert (tasks.name, tasks.total) == ("e-step", 3)


def test_a_slow_worker_straggles(driven):
    observer, _, runs = driven
    drive(observer, 0)
    run = runs.by_id["id"]
    run.task_expected("e-step", 1, 8)
    for worker, seconds in (("a", 1.0), ("b", 1.1), ("c", 1.2), ("d", 3.0)):
        run.task_done("e-step", 1, worker, seconds, 0.0)
    assert run.stragglers() == ["d"]


def test_a_worker_that_alone_does_tasks_of_a_kind_is_not_slow(driven):
    """The others did tasks of another kind, which take less."""
    observer, _, runs = driven
    drive(observer, 0)
    run = runs.by_id["id"]
    run.task_expected("draw", 1, 2)
    for worker in ("a", "b"):
        run.task_done("draw", 1, worker, 0.1, 0.0)
    run.task_expected("e-step", 2, 1)
    run.task_done("e-step", 2, "a", 3.0, 0.0)
    assert run.stragglers() == []


def test_a_run_that_goes_on_takes_up_where_it_was(driven):
    observer, sent, runs = driven
    drive(observer, 5)
    observer(CandidateDone("3-full-1", 5, True, "Converged."))
    observer(Ended("interrupted", 1.0))
    again = [{**sent[0], "begin": {**sent[0]["begin"], "fresh": False, "client": "Client-2"}}]
    again += [{"run": "id", "name": "mine", "events": [
        {"event": "passes", "passes": [[4, {"3-full-1": [-0.2, None]}]], "count": 1, "seconds": 1.0,
         "step_seconds": 0.0, "rows": 10.0}]}]  # fmt: skip
    for message in again:
        runs.take(200.0, message)
    fit = runs.by_id["id"].candidates["3-full-1"]
    assert (fit.passes, fit.log_likelihood[-1], fit.status) == ([1, 2, 3, 4], -0.2, "running")
    runs.client_gone("Client-1")
    assert runs.by_id["id"].status == "running"
    runs.client_gone("Client-2")
    assert runs.by_id["id"].status == "driver gone"


def test_the_log_alone_makes_the_same_state(driven):
    observer, sent, runs = driven
    drive(observer, 7)
    other = Runs()
    other.replay(enumerate(pickle.loads(pickle.dumps(sent))))
    assert other.by_id["id"].candidates == runs.by_id["id"].candidates


def test_nothing_grows_without_bound(driven):
    observer, sent, runs = driven
    drive(observer, 5000, seconds=0.001)
    observer(Ended("complete", 1.0))
    run = runs.by_id["id"]
    assert run.candidates["3-full-1"].passes[-1] == 5000
    assert len(run.candidates["3-full-1"].passes) <= state.MOST_POINTS
    assert len(run.timings) <= state.MOST_POINTS
    assert max(len(e["passes"]) for m in sent for e in m["events"] if e["event"] == "passes") <= MOST_PASSES
    assert run.totals["fit"].passes == 5000
    assert all(_size(message) <= MOST_BYTES for message in sent)
    for number in range(20):
        runs.take(1.0, {**sent[0], "run": f"other-{number}"})
    assert len(runs.by_id) == state.MOST_RUNS


@pytest.mark.parametrize(("fits", "ends"), [(100, False), (100, True), (3000, False)])
def test_messages_of_many_fits_are_small_too(driven, fits, ends):
    """Of many fits fewer passes are told, whether they come together or are parted by fits that end."""
    observer, sent, runs = driven
    observer(PLAN)
    observer(PhaseStarted("fit"))
    names = [f"{k}-spherical-1 without fold {k % 5}" for k in range(fits)]
    for number in range(1, 61):
        for name in names:
            observer(PassDone(number, name, -1.0 / number, 0.1**number, True, 1e-6, 1e9))
        if ends:
            observer(CandidateDone(names.pop(), number, True, "Converged."))
        observer(PassTimed(number, len(names), 1e-6, 0.0))
    observer(Ended("complete", 1.0))
    assert all(_size(message) <= MOST_BYTES for message in sent)
    assert len(pickle.dumps(sent[-1])) <= 1.2 * MOST_BYTES
    run = runs.by_id["id"]
    assert run.passes == run.totals["fit"].passes == 60
    assert run.candidates[names[0]].passes[-1] == 60
    assert len(run.candidates) == min(fits, state.MOST_CANDIDATES)


def begun(number):
    begin = {"token": f"{number:08x}", "client": f"Client-{number}", "fresh": True}
    return {"run": f"run-{number}", "name": f"night {number}", "begin": begin, "events": [PLAN.as_dict()]}


def test_a_run_that_is_under_way_is_not_forgotten():
    """Long runs come first and last longest: the short ones beside them go, the longest unheard first."""
    runs, end = Runs(), [{"event": "end", "status": "complete"}]
    for number in range(state.MOST_RUNS):
        runs.take(float(number), begun(number))
    for at, number in ((20.0, 5), (21.0, 1), (22.0, 2)):
        runs.take(at, {"run": f"run-{number}", "name": "", "events": end})
    for number in (100, 101):
        runs.take(30.0, begun(number))
    assert set(runs.by_id) == {f"run-{number}" for number in (0, 2, 3, 4, 6, 7, 100, 101)}
    for number in range(200, 210):  # all are under way: those that were heard last stay
        runs.take(float(number), begun(number))
    assert list(runs.by_id) == [f"run-{number}" for number in range(202, 210)]


def test_large_messages_go_without_their_pictures(driven):
    observer, sent, _ = driven
    drive(observer, 1)
    observer(Shares(2, "3-full-1", {f"c{i}": [0.1] * 200 for i in range(50)}))
    observer(Ended("complete", 1.0))
    assert all(_size(message) <= MOST_BYTES for message in sent)
    assert not any(e["event"] == "shares" for e in sent[-1]["events"])
    assert sent[-1]["events"][-1]["event"] == "end"


def test_metrics_parse_and_are_few(driven):
    observer, _, runs = driven
    drive(observer)
    observer(PhaseStarted("assign"))
    runs.by_id["id"].task_expected("e-step", 1, 4)
    for name, phase in (("id-2", "other"), ("id-3", 'odd "name"\n')):
        runs.take(5.0, {"run": name, "name": phase, "events": [PLAN.as_dict()]})
    registry = CollectorRegistry()
    registry.register(metrics.Collector(runs))
    families = list(text_string_to_metric_families(generate_latest(registry).decode()))
    assert families
    samples = [sample for family in families for sample in family.samples]
    assert all(family.name.startswith("distem_") for family in families)
    assert all(set(sample.labels) == {"run", "phase"} for sample in samples)
    assert all(s.name.endswith("_total") for f in families if f.type == "counter" for s in f.samples)
    assert all(family.documentation for family in families)
    mine = {(s.name, s.labels["phase"]): s.value for s in samples if s.labels["run"] == "mine"}
    assert mine["distem_passes_total", "fit"] == 3.0
    assert mine["distem_rows_total", "fit"] == 3000.0
    for name in ("log_likelihood", "objective"):
        assert mine[f"distem_{name}", "assign"] == pytest.approx(-1.0 / 3.0)
    assert len(samples) <= 3 * len(metrics.GAUGES) + (3 + 1 + 1) * len(metrics.COUNTERS)


def scraped(runs):
    registry = CollectorRegistry()
    registry.register(metrics.Collector(runs))
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {(s.name, s.labels["phase"]): s.value for family in families for s in family.samples}


def test_counters_count_within_their_phase(driven):
    """A phase's series ends where the phase did; the next begins at nothing, and sums are right."""
    observer, sent, runs = driven
    drive(observer)
    observer(Warned("Odd."))
    runs.by_id["id"].task_done("e-step", 1, "a", 0.1, 0.0)
    observer(PhaseStarted("assign"))
    before = scraped(runs)
    for _ in range(2):
        runs.by_id["id"].task_done("assign", 1, "a", 0.1, 0.0)
    observer(Ended("complete", 1.0))
    after = scraped(runs)
    assert before["distem_tasks_total", "assign"] == 0.0
    assert after["distem_tasks_total", "assign"] == 2.0
    for name, value in (("tasks", 1.0), ("passes", 3.0), ("warnings", 1.0)):
        assert before[f"distem_{name}_total", "fit"] == after[f"distem_{name}_total", "fit"] == value
    assert after["distem_passes_total", "assign"] == 0.0
    told = sum(v for (name, _), v in after.items() if name == "distem_observer_seconds_total")
    assert told == pytest.approx(sent[-1]["spent"])


def test_k_means_has_an_objective_and_no_log_likelihood(driven):
    observer, _, runs = driven
    observer(replace(PLAN, objective="minus inertia"))
    observer(PassDone(1, "3", -7.5, None, True, 1.0, 1000.0))
    observer(PassTimed(1, 1, 1.0, 0.1))
    observer(PhaseStarted("assign"))
    found = scraped(runs)
    assert found["distem_objective", "assign"] == -7.5
    assert not [name for name, _ in found if name == "distem_log_likelihood"]


def test_a_run_that_is_over_took_its_time_and_runs_no_more(driven):
    observer, _, runs = driven
    drive(observer)
    assert "running for" in Page._of_tiles(runs.by_id["id"])
    observer(Ended("complete", 1.0))
    tiles = Page._of_tiles(runs.by_id["id"])
    assert "running for" not in tiles
    assert "took " in tiles


def test_grafana_asks_for_metrics_that_there_are():
    text = (Path(__file__).parents[3] / "docs" / "grafana" / "distem.json").read_text(encoding="utf-8")
    board = json.loads(text)
    known = set(metrics.GAUGES) | {f"{name}_total" for name in metrics.COUNTERS}
    asked = [t["expr"] for panel in board["panels"] for t in panel.get("targets", [])]
    assert len(asked) >= 8
    for expression in asked:
        names = [w for w in expression.replace("(", " ").replace("{", " ").split() if w.startswith("distem_")]
        assert names
        assert set(names) <= known, expression


@pytest.mark.parametrize(
    ("key", "found"),
    [
        (f"e-step-{TOKEN}-12-0", ("e-step", TOKEN, 12)),
        (f"load-{TOKEN}-3-7-again1", ("load", TOKEN, 3)),
        (f"merge-{TOKEN}-3-0-8", ("merge", TOKEN, 3)),
        ("sum-0a1b2c3d4e5f", None),
        (("e-step", 0), None),
    ],
)
def test_keys_tell_what_a_task_does(key, found):
    assert task_of(key) == found


@pytest.mark.slow_cluster  # another process that imports distributed and Bokeh
def test_the_plugin_needs_no_distem_where_it_arrives():
    packed = pickle.dumps(attach._by_value())
    code = (
        "import pickle, sys; sys.modules['distem'] = None\n"
        "plugin = pickle.loads(sys.stdin.buffer.read())\n"
        "print(type(plugin).__name__, plugin.name, plugin.runs.by_id)"
    )
    done = subprocess.run([sys.executable, "-c", code], input=packed, capture_output=True, check=True)
    assert done.stdout.decode().startswith("LivePage distem-live-")


def test_the_two_axes_are_those_on_which_components_lie_apart():
    means = np.array([[0.0, 5.0, 0.1], [0.0, -5.0, 0.4]])
    score = telling(np.array([0.5, 0.5]), means, np.stack([np.eye(3)] * 2))
    assert list(np.argsort(-score)) == [1, 2, 0]
    assert score[0] == 0.0


def test_a_density_image_lies_where_the_rows_do():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(5000, 2)) * [1.0, 10.0] + [3.0, -7.0]
    image = density(values, np.ones(5000))
    tones = np.frombuffer(image["counts"], np.uint8).reshape(SIDE, SIDE)
    y, x = np.unravel_index(tones.astype(float).argmax(), tones.shape)
    assert abs(image["x"][0] + (x + 0.5) / SIDE * (image["x"][1] - image["x"][0]) - 3.0) < 1.5
    assert abs(image["y"][0] + (y + 0.5) / SIDE * (image["y"][1] - image["y"][0]) + 7.0) < 15.0
    picture = Picture("a", 1, ["x", "y"], [[0.0, 0.0]], [[[1.0, 0.0], [0.0, 1.0]]], [1.0], image)
    assert _size(picture.as_dict()) < 8000


@pytest.mark.parametrize(
    ("name", "of"),
    [("3-full-2", "3-full"), ("3-full-1 without fold 2", "3-full"), ("3", "3"), ("odd", "odd")],
)
def test_restarts_of_a_candidate_share_a_colour(name, of):
    assert kind(name) == of
    assert state.WITHOUT == WITHOUT  # said twice: the page travels without the rest
