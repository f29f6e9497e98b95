"""A sweep as named arrays and plain values, and back with the same bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distem.em.loop import Climb
from distem.em.stopping import Reason, TracePoint

Arrays = dict[str, NDArray[Any]]


def dump(climbs: Sequence[Climb]) -> tuple[Arrays, dict[str, Any]]:
    """All that the next passes of these fits depend on."""
    arrays: Arrays = {}
    facts = []
    for index, fit in enumerate(climbs):
        parts: dict[str, Arrays] = {
            "params": fit.model.arrays(fit.params),
            "accelerator": fit.accelerator.state(),
        }
        if fit.fallback is not None:
            parts["fallback"] = fit.model.arrays(fit.fallback)
        if fit.best is not None:
            parts["best"], parts["stats"] = fit.model.arrays(fit.best[0]), fit.best[1].to_arrays()
        for part, named in parts.items():
            arrays |= {f"{index}/{part}/{name}": np.asarray(value) for name, value in named.items()}
        arrays[f"{index}/trace"] = np.array(
            [(p.log_likelihood, p.accepted, p.fresh, _number(p.shift)) for p in fit.trace], dtype=np.float64
        ).reshape(-1, 4)
        reason = fit.reason and asdict(fit.reason)
        facts.append({"name": fit.name, "reason": reason, "repairs": fit.repairs, "fresh": fit.fresh})
    return arrays, {"climbs": facts}


def restore(climbs: Sequence[Climb], arrays: Arrays, info: dict[str, Any]) -> None:
    """Bring freshly started fits to where `dump` left them."""
    for index, (fit, facts) in enumerate(zip(climbs, info["climbs"], strict=True)):
        fit.params = fit.model.from_arrays(_part(arrays, index, "params"))
        fallback, best = _part(arrays, index, "fallback"), _part(arrays, index, "best")
        fit.fallback = fit.model.from_arrays(fallback) if fallback else None
        if best:
            stats = fit.model.stats_type.from_arrays(_part(arrays, index, "stats"))
            fit.best = (fit.model.from_arrays(best), stats)
        fit.accelerator.restore(_part(arrays, index, "accelerator"))
        fit.trace = [
            TracePoint(float(v), bool(a), bool(f), None if np.isnan(s) else float(s))
            for v, a, f, s in arrays[f"{index}/trace"]
        ]
        fit.reason = Reason(**facts["reason"]) if facts["reason"] else None
        fit.repairs, fit.fresh = facts["repairs"], facts["fresh"]


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def _part(arrays: Arrays, index: int, part: str) -> Arrays:
    prefix = f"{index}/{part}/"
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
