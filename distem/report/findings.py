"""What a run came to, in sentences: what was asked, what came out, and whether to trust it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from distem.report.progress import CRITERIA
from distem.report.reading import UNSURE, Found
from distem.report.words import count, criterion, listed, number, plain, plus_minus, seconds, share, whole

Level = Literal["good", "note", "warn"]
SPIKE = 1e-3
"""A component narrower than this share of the data's spread is suspicious."""
_FEW_ROWS = 5  # per feature
_MANY_UNSURE = 0.2
_PHASES = {"scan": "scan", "seed": "start", "fit": "fit", "assign": "label", "finalise": "write"}


@dataclass(frozen=True, slots=True)
class Check:
    """Something to know before one trusts the result.

    Attributes
    ----------
    level : {"good", "note", "warn"}
    text : str
        A sentence.
    """

    level: Level
    text: str

    @property
    def sign(self) -> str:
        """The level in a word."""
        return {"good": "Good", "note": "Note", "warn": "Look"}[self.level]


def asked(run: Found) -> str:
    """What the run was to do."""
    rows = run.say("plan", "rows")
    data = (
        f"{count(rows, 'row')} of {count(run.d, 'feature')}" if rows is not None else count(run.d, "feature")
    )
    kinds = sorted(set(run.variants))
    components = sorted({int(k) for k in run.selection["components"].values})
    restarts = int(max(run.selection["restart"].values, default=1))
    model = f"{run.family.title}, {listed(kinds)} {run.family.variant}"
    many = len(run.selection["candidate"])
    if many == 1:
        return f"{data}; {model}, {count(components[0], run.part)}."
    spread = listed([str(k) for k in components])
    chosen_by = CRITERIA.get(str(run.say("config", "fit", "select")), "likelihood")
    how = f" from {count(restarts, 'start')} each" if restarts > 1 else ""
    rule = f", chosen by {chosen_by}" if len(components) > 1 or len(kinds) > 1 else ""
    return f"{data}; {model}, {spread} {run.part}s{how}: {count(many, 'candidate')}{rule}."


def found(run: Found) -> str:
    """What came out, in one sentence."""
    if "weights" not in run.model:
        return f"{count(run.k, run.part)}."
    order = np.argsort(-run.weights, kind="stable")
    last = run.k - 1 if _outliers(run) else None
    shares = listed(
        [f"{share(run.weights[i])} ({'outliers' if i == last else f'{run.part} {i}'})" for i in order], 6
    )
    many = count(run.k - _outliers(run), run.part)
    return f"{many} with {'shares of ' if run.k > 1 else 'a share of '}{shares}."


def _outliers(run: Found) -> bool:
    """Whether the last part is of what follows no motion."""
    return "motion" in run.model.sizes and run.k > run.model.sizes["motion"]


def figures(run: Found) -> list[tuple[str, str]]:
    """The numbers of the header: name and value."""
    fit: Mapping[str, Any] = run.say("fit", otherwise={})
    return [
        (f"{run.part}s", str(run.k - _outliers(run))),
        ("log-likelihood per row", number(float(fit.get("log_likelihood", np.nan)), 6)),
        ("BIC", criterion(float(fit.get("bic", np.nan)))),
        ("passes" if run.family.step == "pass" else "pairs", f"{int(fit.get('passes', 0)):,}"),
        ("converged", "yes" if fit.get("converged") else "no"),
        ("time", seconds(float(run.say("seconds", otherwise=np.nan)))),
    ]


def checks(run: Found) -> list[Check]:
    """What speaks for the result, and what against it; the worst first."""
    converged = bool(run.say("fit", "converged"))
    listing = [Check("good" if converged else "warn", str(run.say("fit", "reason", otherwise="")))]
    listing += [Check("warn", str(warning)) for warning in run.say("warnings", otherwise=[])]
    listing += [
        *_rows(run),
        *_edge(run),
        *_restarts(run),
        *_unsure(run),
        *_collapsed(run),
        *_small(run),
        *_spikes(run),
    ]
    rank = {"warn": 0, "note": 1, "good": 2}
    return sorted((c for c in listing if c.text), key=lambda c: rank[c.level])


def _rows(run: Found) -> list[Check]:
    rows, usable = run.say("plan", "rows"), run.say("data", "usable_rows")
    if rows is None or usable is None:
        return []
    if rows == usable:
        all_of_them = "The only row was used" if rows == 1 else f"All {whole(rows)} rows were used"
        return [Check("good", f"{all_of_them}; no value is missing.")]
    told = ("left out", "keep their places")
    if any(words in str(w) for w in run.say("warnings", otherwise=[]) for words in told):
        return []
    return [
        Check(
            "note",
            f"{whole(rows - usable)} of {whole(rows)} rows ({share(1 - usable / rows)}) were left out.",
        )
    ]


def _edge(run: Found) -> list[Check]:
    tried = sorted({int(k) for k in run.selection["components"].values})
    if len(tried) < 2:
        return []
    asked_for = int(
        run.selection["components"].values[np.asarray(run.selection["chosen"].values, dtype=bool)][0]
    )
    if asked_for == tried[-1]:
        return [
            Check(
                "warn",
                f"The largest number of {run.part}s tried, {tried[-1]}, was chosen: the data may hold "
                "more. Try more.",
            )
        ]
    if asked_for == tried[0] and tried[0] > 1:
        return [
            Check("note", f"The smallest number of {run.part}s tried, {tried[0]}, was chosen: fewer may do.")
        ]
    return [
        Check("good", f"{asked_for} {run.part}s were chosen among {tried[0]} to {tried[-1]}: not at an end.")
    ]


def _restarts(run: Found) -> list[Check]:
    chosen = str(run.selection.attrs.get("chosen", "")).rpartition("-")[0]
    reached = {
        str(name): float(value)
        for name, value in zip(
            run.selection["candidate"].values, run.selection["log_likelihood"].values, strict=True
        )
        if str(name).rpartition("-")[0] == chosen
    }
    if len(reached) < 2:
        return []
    best = max(reached.values())
    tolerance = run.say("config", "fit", "tolerance")
    near = max(1e-4, 10.0 * float(tolerance)) if isinstance(tolerance, (int, float)) else 1e-4
    alike, worst = sum(best - v <= near for v in reached.values()), best - min(reached.values())
    if alike == len(reached):
        every = "Both" if len(reached) == 2 else f"All {len(reached)}"
        return [
            Check(
                "good",
                f"{every} starts reached the same {run.objective}, to "
                f"{number(max(worst, 1e-12), 2)} per row.",
            )
        ]
    if alike > 1:
        return [
            Check(
                "good",
                f"{alike} of {len(reached)} starts reached the same best {run.objective}; the worst fell "
                f"{number(worst, 2)} per row short.",
            )
        ]
    second = best - sorted(reached.values())[-2]
    return [
        Check(
            "note",
            f"Only one of {len(reached)} starts got this far; the next fell {number(second, 2)} per row "
            "short. More starts may find a better fit.",
        )
    ]


def _unsure(run: Found) -> list[Check]:
    if run.k == 1 or not len(run.uncertainty) or "uncertainty" not in run.family.answers:
        return []
    total = float(run.row_weights.sum())
    unsure = float(run.row_weights[run.uncertainty > UNSURE].sum()) / total
    rows = int((run.uncertainty > UNSURE).sum())
    if not rows:
        return [
            Check(
                "good",
                f"All labels in the sample of {whole(len(run.labels))} have at least "
                f"{1.0 - UNSURE:.0%} probability.",
            )
        ]
    text = (
        f"{share(unsure)} of the sample ({count(rows, 'row')} of {whole(len(run.labels))}) have more than "
        f"{UNSURE:.0%} probability of belonging to another {run.part} than their label says."
    )
    return [Check("note" if unsure > _MANY_UNSURE else "good", text)]


def _collapsed(run: Found) -> list[Check]:
    chosen = run.selection.attrs.get("chosen")
    # after an interruption, passes since the last checkpoint stand in the log twice
    told = {
        (e.get("pass"), e.get("component"), str(e.get("action")))
        for e in run.events
        if e.get("event") == "collapsed" and e.get("candidate") == chosen
    }
    asked_for = int(str(chosen).partition("-")[0]) if str(chosen).partition("-")[0].isdigit() else run.k
    made = []
    if run.k < asked_for:
        made.append(
            Check(
                "warn",
                f"{count(asked_for - run.k, run.part)} of {asked_for} collapsed and "
                f"{'was' if asked_for - run.k == 1 else 'were'} dropped.",
            )
        )
    moved = Counter(action for _, _, action in told)["reseeded"]
    if moved:
        made.append(
            Check(
                "note",
                f"{run.part.capitalize()}s collapsed {count(moved, 'time')} on the way and started anew "
                "elsewhere.",
            )
        )
    return made


def _small(run: Found) -> list[Check]:
    rows = run.say("data", "usable_rows")
    if rows is None or "weights" not in run.model:
        return []
    few = [i for i in range(run.k) if run.weights[i] * rows < _FEW_ROWS * (run.d + 1)]
    if not few:
        return []
    parts = [f"{run.part} {i} about {count(run.weights[i] * rows, 'row')}" for i in few]
    return [Check("note", f"Few rows for {count(run.d, 'feature')}: {listed(parts, 6)}.")]


def _spikes(run: Found) -> list[Check]:
    if not run.has_moments:
        return []
    with np.errstate(over="ignore", invalid="ignore"):
        narrow = (run.sds / run.spread < SPIKE) & (run.values.std(axis=0) > 0.0) & (len(run.values) > 1)
    made = []
    for i in np.flatnonzero(narrow.any(axis=1))[:6]:
        j = int(np.flatnonzero(narrow[i])[0])
        made.append(
            Check(
                "note",
                f"{run.part.capitalize()} {i} is a spike in '{plain(run.features[j])}', at "
                f"{plus_minus(run.means[i, j], run.sds[i, j])}: the data repeats values there, or the "
                f"{run.part} has closed in on a few rows.",
            )
        )
    return made


def phases(run: Found) -> list[tuple[str, float]]:
    """Seconds of each phase of the last attempt, as the log has it."""
    begun: list[tuple[str, datetime]] = []
    for event in run.events:
        if event.get("event") != "phase":
            continue
        try:
            at = datetime.fromisoformat(str(event.get("time")))
        except ValueError:
            return []
        if event.get("phase") == "scan":
            begun = []
        begun.append((str(event.get("phase")), at))
    return [
        (_PHASES.get(name, name), (end - start).total_seconds())
        for (name, start), (_, end) in pairwise(begun)
    ]
