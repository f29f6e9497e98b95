"""What a run found, as datasets: the groups of result.zarr beside the assignment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import xarray as xr

from distem.em.links import Linked
from distem.em.loop import Fit
from distem.em.selection import Score
from distem.em.stopping import gain_left
from distem.families.base import Family
from distem.fitted import FittedModel
from distem.matching import Numbered
from distem.types import Float64, Rows


def model_dataset(model: FittedModel, start: FittedModel, numbered: Numbered | None = None) -> xr.Dataset:
    """The fitted model, with the parameters it started from under `start_`, and the numbers it was given."""
    begun = start.dataset()
    parameters = {f"start_{name}": begun[name] for name in start.variables}
    if start.k != model.k:  # a component was dropped on the way
        parameters = {
            name: array.rename(component="start_component").assign_coords(start_component=np.arange(start.k))
            if "component" in array.dims
            else array
            for name, array in parameters.items()
        }
    dataset = model.dataset().assign(parameters)
    if numbered is None:
        return dataset
    words = "number of the component in the earlier run, -1 where it is new"
    far = "distance from it, in standard deviations of the data"
    return dataset.assign(
        earlier=("component", numbered.earlier, {"long_name": words}),
        moved=("component", numbered.distances, {"long_name": far}),
    )


def trace_dataset(
    fits: Mapping[str, Fit], chosen: str, seconds: Sequence[float], offset: float, objective: str
) -> xr.Dataset:
    """Log-likelihood per row by pass: of the chosen fit, and of every candidate.

    Parameters
    ----------
    seconds : sequence of float
        Duration of each pass.
    offset : float
        Added to log-likelihoods, so that they are in the data's own units.
    objective : str
        What it is that climbs.
    """
    trace = fits[chosen].trace
    longest = max(len(fit.trace) for fit in fits.values())
    every = np.full((len(fits), longest), np.nan)
    for row, fit in zip(every, fits.values(), strict=True):
        row[: len(fit.trace)] = [point.log_likelihood + offset for point in fit.trace]
    left = [gain_left(trace[: i + 1]) for i in range(len(trace))]
    took = np.full(longest, np.nan)
    took[: len(seconds)] = seconds[:longest]
    return xr.Dataset(
        {
            "log_likelihood": (
                "pass",
                [point.log_likelihood + offset for point in trace],
                {"long_name": f"mean {objective} per row, of the parameters the pass started from"},
            ),
            "gain_left": (
                "pass",
                [np.nan if value is None else value for value in left],
                {"long_name": f"{objective} per row still expected"},
            ),
            "accepted": ("pass", [point.accepted for point in trace], {"long_name": "step was kept"}),
            "seconds": ("pass", took[: len(trace)], {"long_name": "duration of the pass", "units": "s"}),
            "candidate_log_likelihood": (
                ("candidate", "candidate_pass"),
                every,
                {"long_name": f"mean {objective} per row of every candidate"},
            ),
        },
        coords={
            "pass": np.arange(1, len(trace) + 1),
            "candidate": np.array(list(fits), dtype=str),
            "candidate_pass": np.arange(1, longest + 1),
        },
        attrs={"chosen": chosen},
    )


def selection_dataset(
    fits: Mapping[str, Fit], scores: Mapping[str, Score], chosen: str, offset: float, its: Family
) -> xr.Dataset:
    """The candidates and what they are judged by, one row each."""
    names = list(fits)

    def column(values: list[float], long_name: str) -> tuple[str, Float64, dict[str, str]]:
        return "candidate", np.array(values), {"long_name": long_name}

    return xr.Dataset(
        {
            "components": column([int(n.split("-")[0]) for n in names], "components asked for"),
            its.variant: ("candidate", np.array([n.split("-")[1] for n in names], dtype=str)),
            "restart": column([int(n.split("-")[2]) for n in names], "number of the start"),
            "log_likelihood": column(
                [fits[n].log_likelihood + offset for n in names], f"mean {its.objective} per row"
            ),
            "parameters": column([scores[n].parameters for n in names], "free parameters"),
            "bic": column([scores[n].bic for n in names], "Bayesian information criterion, less is better"),
            "aic": column([scores[n].aic for n in names], "Akaike's information criterion, less is better"),
            "icl": column([scores[n].icl for n in names], "integrated completed likelihood, less is better"),
            "cv": column(
                [scores[n].cv for n in names], "mean log-likelihood of a held-out row, more is better"
            ),
            "cv_se": column([scores[n].cv_se for n in names], "its standard error over the folds"),
            "passes": column([len(fits[n].trace) for n in names], "passes over the data"),
            "converged": column([fits[n].reason.converged for n in names], "whether it converged"),
            "dropped": column([fits[n].reason.dropped for n in names], "whether it was left as hopeless"),
            "chosen": column([n == chosen for n in names], "whether it was chosen"),
        },
        coords={"candidate": np.array(names, dtype=str)},
        attrs={"chosen": chosen, "variant": its.variant},
    )


def sample_dataset(model: FittedModel, values: Float64, weights: Float64) -> xr.Dataset:
    """Some rows of the data in their own units, with their labels, for pictures."""
    rows = Rows(np.ascontiguousarray(values))
    if isinstance(model.model, Linked):  # rows of a sample do not follow each other: each by itself
        model = replace(model, params=model.model.alone(model.params))
        rows = replace(rows, begins=np.ones(rows.n, dtype=bool))
    found = model.assign(rows, probability=False)
    return xr.Dataset(
        {
            "values": (("row", "feature"), model.transform.backward_means(values)),
            "label": ("row", found.label.astype(np.int32)),
            "uncertainty": ("row", found.uncertainty),
            "weights": ("row", weights),
        },
        coords={"feature": np.array(model.features, dtype=str)},
    )
