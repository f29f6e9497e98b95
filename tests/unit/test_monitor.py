"""Observers: the log and what a terminal shows."""

import io
import json

import pytest
from rich.console import Console

from distem.events import CandidateDone, ComponentCollapsed, Note, PassDone, PhaseStarted, Resumed, Warned
from distem.monitor.log import JsonLog
from distem.monitor.progress import Progress


def passed(number, gain, candidate="3-full-1", seconds=2.0):
    return PassDone(number, candidate, -1.25, gain, True, seconds, 5e5)


ALL = [
    PhaseStarted("scan"),
    Warned("Odd."),
    PhaseStarted("fit"),
    Resumed(3),
    passed(4, None),
    ComponentCollapsed(4, "3-full-1", 2, "reseeded"),
    CandidateDone("3-full-1", 5, True, "Converged."),
    Note("A fact."),
]


def test_the_log_has_a_line_for_each_event(tmp_path):
    with JsonLog(tmp_path / "log.jsonl", "mine", lambda text: text.replace("fact", "…")) as log:
        for event in ALL:
            log(event)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["event"] for line in lines] == [event.event for event in ALL]
    assert [line["phase"] for line in lines] == ["scan"] * 2 + ["fit"] * 6
    assert {line["run"] for line in lines} == {"mine"}
    assert lines[4]["pass"] == 4
    assert lines[4]["gain_left"] is None
    assert lines[-1]["message"] == "A …."


def test_the_log_is_appended_to(tmp_path):
    for _ in range(2):
        with JsonLog(tmp_path / "log.jsonl", "mine", str) as log:
            log(ALL[0])
    assert len((tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()) == 2


def shown(capsys, events, **options):
    with Progress(**options) as progress:
        for event in events:
            progress(event)
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def test_lines_where_there_is_no_terminal(capsys):
    said = shown(capsys, ALL)
    for part in ("scan", "warning: Odd.", "after pass 3", "pass 4 3-full-1: log-likelihood -1.25", "A fact."):
        assert part in said
    assert "warning: Component 2 of candidate 3-full-1 collapsed in pass 4 and was reseeded." in said


def test_quiet_shows_warnings_only(capsys):
    said = shown(capsys, ALL, quiet=True)
    assert len(said.splitlines()) == 2
    assert all(line.startswith("warning: ") for line in said.splitlines())


@pytest.mark.parametrize(
    ("gains", "options", "says"),
    [
        ([], {}, "?"),
        ([None], {"max_passes": 101}, "at most 3 min"),
        ([1e-2, 1e-3, 1e-4], {"max_passes": 10_000, "tolerance": 1e-6}, "about 4 s"),
        ([1e-2, 9.9e-3], {"max_passes": 12, "tolerance": 1e-6}, "at most 20 s"),
        ([1e-3, 1e-2], {"max_passes": 12, "tolerance": 1e-6}, "at most 20 s"),
        ([1e-2, 0.0], {"max_passes": 12, "tolerance": 1e-6}, "at most 20 s"),
        ([1e-2, 9.99e-3], {"max_passes": 100_000, "tolerance": 1e-6}, "about 5 h"),
    ],
)
def test_time_left(gains, options, says):
    progress = Progress(quiet=False, **options)
    for number, gain in enumerate(gains, start=1):
        progress(passed(number, gain))
    assert progress.time_left(passed(max(1, len(gains)), None)) == says


def test_a_terminal_gets_a_table():
    progress = Progress(max_passes=10, tolerance=1e-6)
    progress(PhaseStarted("fit"))
    progress(passed(3, 1e-3))
    progress(passed(3, 1e-3, "4-full-1"))
    progress(CandidateDone("4-full-1", 3, True, "Converged."))
    drawn = io.StringIO()
    Console(file=drawn, width=120).print(progress._table())
    text = drawn.getvalue()
    for part in ("distem: fit", "3-full-1", "-1.25", "1.0e-03", "500,000", "at most 14 s"):
        assert part in text
    assert "4-full-1" not in text
