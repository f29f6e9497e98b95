"""Observers: the log and what a terminal shows."""

import io
import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator, ValidationError
from rich.console import Console
from runs import blobs, config, events, store

from distem.events import (
    CandidateDone,
    CandidateDropped,
    ComponentCollapsed,
    Note,
    PassDone,
    PassTimed,
    PhaseStarted,
    Planned,
    Resumed,
    Shares,
    Warned,
)
from distem.monitor.log import JsonLog
from distem.monitor.progress import Progress
from distem.monitor.remaining import Remaining, duration
from distem.monitor.schema import kinds, log_schema
from distem.run import run
from distem.starting import without


def passed(number, gain, candidate="3-full-1", seconds=2.0):
    return PassDone(number, candidate, -1.25, gain, True, seconds, 5e5)


ALL = [
    PhaseStarted("scan"),
    Warned("Odd."),
    PhaseStarted("fit"),
    Resumed(3),
    passed(4, None),
    PassTimed(4, 1, 2.0, 0.1),
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
    assert [line["phase"] for line in lines] == ["scan"] * 2 + ["fit"] * 7
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
    for part in (
        "scan",
        "warning: Odd.",
        "after pass 3",
        "pass 4: 3-full-1 at log-likelihood -1.25",
        "A fact.",
    ):
        assert part in said
    assert "warning: Component 2 of candidate 3-full-1 collapsed in pass 4 and was reseeded." in said


def test_a_line_a_pass_where_there_is_no_terminal(capsys):
    passes = [event for n in range(1, 41) for event in (passed(n, None), PassTimed(n, 1, 0.01, 0.001))]
    lines = shown(capsys, [PhaseStarted("fit"), *passes]).splitlines()
    assert [line.split(":")[0].split()[-1] for line in lines[1:]] == [str(n) for n in range(1, 41)]


def test_quiet_shows_warnings_only(capsys):
    said = shown(capsys, ALL, quiet=True)
    assert len(said.splitlines()) == 2
    assert all(line.startswith("warning: ") for line in said.splitlines())


def climbing(progress, gains, name="3-full-1", **more):
    for number, gain in enumerate(gains, start=1):
        progress(passed(number, gain, name))
        progress(PassTimed(number, 1, 2.0, 0.1))


@pytest.mark.parametrize(
    ("gains", "options", "left"),
    [
        ([], {}, None),
        ([None, None, None], {"max_passes": 101, "tolerance": 1e-6}, None),
        ([1e-2, 1e-3], {"max_passes": 10_000, "tolerance": 1e-6}, None),
        ([1e-2, 1e-3, 1e-4], {"max_passes": 10_000, "tolerance": 1e-6}, 4.0),
        ([1e-2, 1e-3, 1e-4], {"max_passes": 4, "tolerance": 1e-6}, 2.0),
        ([1e-3, 1e-2, 1e-1], {"max_passes": 12, "tolerance": 1e-6}, None),
        ([1e-2, 0.0, 0.0], {"max_passes": 12, "tolerance": 1e-6}, None),
        ([1e-2, 1e-3, 1e-4], {"max_passes": 12}, None),
    ],
)
def test_time_left(gains, options, left):
    remaining = Remaining(**options)
    climbing(remaining, gains)
    assert remaining.seconds == left


def test_the_last_fit_decides_how_long_it_takes():
    remaining = Remaining(1e-6, 1000)
    climbing(remaining, [1e-2, 1e-3, 1e-4])
    climbing(remaining, [1e-2, 5e-3, 2.5e-3], "4-full-1")
    assert remaining.seconds_of("3-full-1") == 4.0
    assert remaining.seconds == remaining.seconds_of("4-full-1") == 24.0
    remaining(CandidateDropped("4-full-1", 3, "Behind."))
    assert remaining.seconds == 4.0


def test_pairs_of_frames_are_counted_to_their_last():
    remaining = Remaining()
    remaining(Planned("motion", 9, 1, 1, 1, 1, 1, 1, False, 0, 1e-6, 14, step="pair"))
    for number in (1, 2):
        remaining(passed(number, None, "2-affine"))
    assert remaining.seconds == 24.0


@pytest.mark.parametrize(
    ("seconds", "says"), [(4.2, "4 s"), (89, "89 s"), (91, "2 min"), (3 * 3600, "3 h"), (4 * 86400, "4 d")]
)
def test_durations(seconds, says):
    assert duration(seconds) == says


def table_of(progress):
    drawn = io.StringIO()
    Console(file=drawn, width=100).print(progress._table())
    return drawn.getvalue()


def test_a_terminal_gets_a_table():
    progress = Progress(max_passes=100, tolerance=1e-6)
    progress(PhaseStarted("fit"))
    for name in ("3-full-1", "4-full-1"):
        climbing(progress, [1e-2, 1e-3, 1e-4], name)
    progress(CandidateDone("4-full-1", 3, True, "Converged."))
    text = table_of(progress)
    for part in ("pass 3", "1 of 2 fits", "3-full-1", "-1.25", "1.0e-04", "500,000 rows/s", "about 4 s left"):
        assert part in text
    assert "4-full-1" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_fits_of_other_rows_and_steps_that_were_taken_back_are_not_ranked(capsys):
    """A fit without a fold is likelier or not because of its rows; a step taken back is no place of a fit."""
    fold = without("3-full-1", 0)
    passes = [
        PassDone(1, "3-full-1", -1.25, 1e-2, True, 2.0, 5e5),
        PassDone(1, "2-full-1", -1.5, 1e-2, True, 2.0, 5e5),
        PassDone(1, fold, -1.0, 1e-2, True, 2.0, 5e5),
        PassTimed(1, 3, 2.0, 0.1),
        PassDone(2, "3-full-1", -7.25, None, False, 2.0, 5e5),
        PassDone(2, "2-full-1", -1.4, 1e-3, True, 2.0, 5e5),
        PassTimed(2, 3, 2.0, 0.1),
    ]
    said = shown(capsys, [PhaseStarted("fit"), *passes])
    assert "pass 1 (3 fits): 3-full-1 at log-likelihood -1.25" in said
    assert "pass 2 (3 fits): 3-full-1 at log-likelihood -1.25 per row, 1.0e-02 still" in said
    progress = Progress()
    for event in (PhaseStarted("fit"), *passes):
        progress(event)
    text = table_of(progress)
    assert "3 of 3 fits running" in text
    assert text.index("3-full-1") < text.index("2-full-1")
    assert "-7.25" not in text
    assert fold not in text
    assert "and 1 more" in text
    for name in ("3-full-1", "2-full-1"):
        progress(CandidateDone(name, 2, True, "Converged."))
    assert "1 of 3 fits running" in table_of(progress)
    assert "1 fit without a fold" in table_of(progress)


def test_what_is_for_pictures_is_not_logged(tmp_path):
    with JsonLog(tmp_path / "log.jsonl", "mine", str) as log:
        log(Shares(1, "3-full-1", {"3-full-1": [0.5, 0.5]}))
    assert (tmp_path / "log.jsonl").read_text(encoding="utf-8") == ""


def test_the_log_of_a_run_is_as_its_schema_says(tmp_path):
    store(tmp_path / "data.zarr", blobs(300))
    run(config(tmp_path, model__components=[2, 3], fit__max_passes=6))
    lines = events(tmp_path / "run")
    Draft202012Validator.check_schema(log_schema())
    schema = Draft202012Validator(log_schema())
    for line in lines:
        schema.validate(line)
    assert [line["event"] for line in lines if line["phase"] is None][-1] == "plan"
    assert lines[-1] == lines[-1] | {"event": "end", "status": "complete"}
    seen = {line["event"] for line in lines}
    assert {"phase", "pass", "timing", "candidate"} <= seen
    with pytest.raises(ValidationError):
        schema.validate(lines[-1] | {"seconds": "many"})


def test_all_events_are_in_the_documentation():
    told = (Path(__file__).parents[2] / "docs" / "monitoring.md").read_text(encoding="utf-8")
    for kind in kinds():
        assert f"`{kind.event}`" in told
