"""The report: one HTML file, drawn from a finished run folder alone, that opens anywhere offline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from distem.data.folder import RunFolder
from distem.report import densities, figures, findings, overlap, places, progress
from distem.report.colours import variable
from distem.report.frames import frame
from distem.report.page import page
from distem.report.profile import profile
from distem.report.reading import UNSURE, Found, read
from distem.report.section import Section
from distem.report.svg import LARGE_PANEL, PANEL
from distem.report.words import count, criterion, number, plain, plus_minus, seconds, share, whole
from distem.types import Float64

PANEL_FEATURES = 5
"""Up to so many features are drawn against each other."""
TABLE_FEATURES = 8
"""Up to so many stand beside each other in the table of components."""
ALL_FEATURES = 400
"""Up to so many stand in the table of all of them."""
_KINDS: Mapping[str, str] = {
    "hidden_markov": "distem.report.kinds.states",
    "motion": "distem.report.kinds.motion",
    "regression_mixture": "distem.report.kinds.regression",
}
"""Modules with what a kind of model has for itself, by kind."""
_ADDED = ("distem.report.kinds.segments", "distem.report.kinds.hard_soft")
"""Modules with what pipelines may add to any kind: they show nothing where there is nothing."""
_PLAN = ("blocks", "partitions", "workers", "threads")


def draw(folder: Path) -> Path:
    """Draw the report of a run; see `draw_in`.

    Parameters
    ----------
    folder : Path
        The run folder.

    Returns
    -------
    Path
        report.html in it.
    """
    return Path(draw_in(RunFolder(Path(folder))))


def draw_in(folder: RunFolder) -> str:
    """Draw the report of a run, wherever it lies; return the report's path or URL.

    Raises
    ------
    ConfigError
        It is not the folder of a complete run.
    """
    return folder.write("report.html", page("page.html", _content(read(folder))))


def _content(run: Found) -> dict[str, Any]:
    own = sections(run)
    return {
        "name": plain(run.name),
        "title": run.family.title[0].upper() + run.family.title[1:],
        "part": run.part,
        "variant": run.family.variant,
        "objective": run.objective,
        "first": [section for section in own if section.first],
        "others": [section for section in own if not section.first],
        "asked": findings.asked(run),
        "found": findings.found(run),
        "numbers": findings.figures(run),
        "checks": findings.checks(run),
        **_moments(run),
        "uncertainty": figures.uncertainty(run) if run.k > 1 and run.uncertainty.any() else None,
        "map": places.uncertainty_map(run),
        "climb": [made for made in (progress.climb(run), progress.gain(run)) if made],
        "criteria": progress.criteria(run),
        "criteria_names": [progress.CRITERIA[c] for c in progress.shown(run.selection)],
        "candidates": _candidates(run),
        "durations": [
            made for made in (progress.phases(run, findings.phases(run)), progress.durations(run)) if made
        ],
        "times": _times(run),
        "provenance": _provenance(run),
        "versions": sorted((str(k), str(v)) for k, v in run.say("versions", otherwise={}).items()),
        "config": run.config,
        "uncertain": "uncertainty" in run.family.answers,
        "unsure": f"{UNSURE:.0%}",
        "sample_rows": count(len(run.labels), "row"),
    }


def _moments(run: Found) -> dict[str, Any]:
    """What kinds have to show whose parts have shares, means and covariances."""
    if not run.has_moments:
        names = ("legend", "components", "everything", "before_after", "panels", "profile", "overlap")
        return dict.fromkeys(names)
    return {
        "legend": _legend(run),
        "components": _components(run),
        "everything": _everything(run),
        "before_after": densities.before_and_after(run) if run.d == 1 else [],
        "panels": _panels(run),
        "profile": profile(run) if run.d >= 3 else None,
        "overlap": overlap.matrix(run) if 1 < run.k <= overlap.MOST and run.d <= ALL_FEATURES else None,
    }


def sections(run: Found) -> Sequence[Section]:
    """What only this kind of model has to show, and what a pipeline added to it."""
    homes = [_KINDS[run.family.kind]] if run.family.kind in _KINDS else []
    return [section for home in (*homes, *_ADDED) for section in import_module(home).sections(run)]


def _legend(run: Found) -> list[dict[str, str]]:
    return [
        {"name": str(i), "colour": variable(i), "share": share(run.weights[i]), "dash": str(i // 7 % 4)}
        for i in range(run.k)
    ]


def _heading(run: Found, j: int) -> dict[str, str]:
    attrs = run.feature_attrs.get(run.features[j], {})
    return {
        "name": plain(run.features[j]),
        "long": plain(str(attrs.get("long_name") or "")),
        "unit": plain(str(attrs.get("units") or "")),
    }


def _components(run: Found) -> dict[str, Any]:
    """The table: a row a component, the most telling features beside each other."""
    columns = sorted(run.telling[:TABLE_FEATURES])
    total = run.row_weights.sum()
    largest = float(run.weights.max())
    rows = []
    for i, entry in enumerate(_legend(run)):
        mine = run.labels == i
        held = float(run.row_weights[mine].sum())
        unsure = float(run.row_weights[mine & (run.uncertainty > UNSURE)].sum())
        rows.append(
            entry
            | {
                "bar": f"{100.0 * run.weights[i] / largest:.1f}",
                "labelled": share(held / total) if total > 0 else "",
                "unsure": share(unsure / held) if held > 0 else "no rows",
                "cells": [plus_minus(run.means[i, j], run.sds[i, j]) for j in columns],
            }
        )
    return {"heads": [_heading(run, j) for j in columns], "rows": rows, "left_out": run.d - len(columns)}


def _everything(run: Found) -> dict[str, Any] | None:
    """All features, a row each; None where the first table has them all."""
    if run.d <= TABLE_FEATURES:
        return None
    chosen = sorted(run.telling[:ALL_FEATURES])
    rows = [
        _heading(run, j) | {"cells": [plus_minus(run.means[i, j], run.sds[i, j]) for i in range(run.k)]}
        for j in chosen
    ]
    return {"rows": rows, "of": whole(run.d), "all": len(chosen) == run.d}


def _panels(run: Found) -> dict[str, Any] | None:
    """Features against each other, below the diagonal of a square; None for one feature."""
    if run.d < 2:
        return None
    views = [frame(run, j) for j in sorted(run.telling[:PANEL_FEATURES])]
    grid, size = [], PANEL if len(views) > 3 else LARGE_PANEL
    for row, up in enumerate(views):
        for column, across in enumerate(views[: row + 1]):
            if row == column:
                made = densities.marginal(run, up, size)
            else:
                made = figures.pair(run, across, up, size)
            grid.append({"row": row + 1, "column": column + 1, "picture": made})
    hidden = _outside(run, [view.feature for view in views])
    return {"size": len(views), "grid": grid, "of": run.d, "hidden": hidden}


def _outside(run: Found, chosen: list[int]) -> str:
    """Components whose means no panel shows."""
    views = [frame(run, j) for j in chosen]
    away = [
        i for i in range(run.k) if any(not view.holds(run.means[i, view.feature][None])[0] for view in views)
    ]
    if not away:
        return ""
    parts = ", ".join(f"{run.part} {i}" for i in away[:8]) + (" and others" if len(away) > 8 else "")
    return f"Outside of some panels: {parts}."


def _candidates(run: Found) -> list[dict[str, Any]]:
    table = run.selection
    reasons = {
        str(e.get("candidate")): str(e.get("reason", ""))
        for e in run.events
        if e.get("event") in ("candidate", "dropped")
    }
    # runs made before there was dropping have no such column
    dropped = table["dropped"].values if "dropped" in table else np.zeros(len(table["candidate"]), bool)
    shown = progress.shown(table)
    rows = []
    for i, name in enumerate(table["candidate"].values):
        rows.append(
            {
                "name": str(name),
                "components": f"{int(table['components'].values[i])}",
                "variant": run.variants[i],
                "restart": f"{int(table['restart'].values[i])}",
                "parameters": whole(float(table["parameters"].values[i])),
                "log_likelihood": number(float(table["log_likelihood"].values[i]), 7),
                "criteria": [_above(progress.judged(table, c), i, c) for c in shown],
                "passes": whole(float(table["passes"].values[i])),
                "converged": "dropped" if dropped[i] else "yes" if table["converged"].values[i] else "no",
                "dropped": bool(dropped[i]),
                "chosen": bool(table["chosen"].values[i]),
                "reason": plain(reasons.get(str(name), "")),
            }
        )
    return rows


def _above(floats: Float64, i: int, name: str) -> str:
    """A criterion as its distance from the least, which reads better than seven digits alike."""
    least = float(np.nanmin(floats)) if np.isfinite(floats).any() else np.nan
    if floats[i] == least:
        return number(least, 7) if name == "cv" else criterion(least)
    above = float(floats[i]) - least
    return f"+{number(above, 3) if name == 'cv' else criterion(above)}"


def _times(run: Found) -> list[tuple[str, str]]:
    took = np.asarray(run.trace["seconds"].values, dtype=np.float64)
    took = took[np.isfinite(took)]
    rows = [("whole run", seconds(float(run.say("seconds", otherwise=np.nan))))]
    rows += [(f"phase: {name}", seconds(length)) for name, length in findings.phases(run)]
    if len(took):
        middle = float(np.median(took))
        rows += [
            (f"median {run.family.step}", seconds(middle)),
            (f"{progress.steps(run, len(took))} together", seconds(float(took.sum()))),
        ]
        usable = run.say("data", "usable_rows", otherwise=run.say("plan", "rows"))
        if usable and middle > 0:
            rows.append(
                ("rows per second", f"{whole(float(f'{usable / middle:.2e}'))}, all candidates at once")
            )
    return rows


def _provenance(run: Found) -> list[tuple[str, str]]:
    say = run.say
    shape = say("data", "shape") or []
    dims = say("data", "dims") or []
    sizes = ", ".join(f"{dim}: {size:,}" for dim, size in zip(dims, shape, strict=False))
    rows = [
        # the folder it names is complete: without --fresh nothing would be done
        ("command to run it again", "distem run config.yaml --fresh"),
        ("instead of --fresh, to keep this run", "--set output.path=…"),
        ("config.yaml lies at", f"{run.folder}/config.yaml" if "://" in run.folder else None),
        ("seed", say("seed")),
        ("config hash", say("config_hash")),
        ("data fingerprint", say("data", "fingerprint")),
        ("data", f"{say('data', 'kind', otherwise='')} ({sizes})" if sizes else say("data", "kind")),
        ("weights", say("data", "weights")),
        ("scaled", say("config", "data", "scale")),
        ("missing values", say("config", "data", "missing")),
        ("start", _start(say("config", "fit", "init"))),
        ("acceleration", say("config", "fit", "acceleration")),
        ("tolerance per row", _tolerance(say("config", "fit", "tolerance"))),
        ("kernels", say("kernels")),
        ("cluster", say("config", "cluster", "kind")),
        (
            "cut into",
            ", ".join(
                count(say("plan", key), key[:-1]) for key in _PLAN if isinstance(say("plan", key), int)
            ),
        ),
    ]
    return [(name, plain(str(value))) for name, value in rows if value not in (None, "")]


def _tolerance(value: Any) -> Any:
    return number(value) if isinstance(value, (int, float)) else value


def _start(init: Any) -> Any:
    return "given parameters" if isinstance(init, dict) else init
