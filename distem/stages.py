"""The stages of a run, each a function of a session: open, scan, seed, fit, assign, publish.

A pipeline composes them. What they did so far is on disk, so a stage that is called again by the same
command after an interruption goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from distem import decoded
from distem._version import __version__
from distem.assigning import assign
from distem.choosing import choose, dropping, earlier_parts, offset_of, validate
from distem.data import results
from distem.data.prepare import check, model_variance, remarks, transform_for
from distem.data.scan import ScanPass, digest
from distem.data.transform import Transform
from distem.data.unchanged import Unchanged, absent_chunks
from distem.em.checkpoint import Arrays, dump, restore
from distem.em.loop import climb
from distem.errors import DataError, Interrupted, StoreError
from distem.events import PhaseStarted, Resumed, Warned
from distem.execution.base import one_blas_thread
from distem.models import seeding
from distem.models.base import Model
from distem.sampling import Learnt, Sampled, climb_on_samples, likeliest
from distem.session import Fitted, Scanned, Seeded, Session
from distem.sightings import sightings
from distem.starting import (
    at_the_foot,
    candidates,
    folds_of,
    rest_of,
    samples_first,
    starting_parameters,
    tries,
    without,
)
from distem.tables import model_dataset, sample_dataset, selection_dataset, trace_dataset

__all__ = [
    "CHECKPOINT_SECONDS",
    "REPORT_ROWS",
    "Fitted",
    "Scanned",
    "Seeded",
    "Session",
    "assign",
    "dropping",
    "fit",
    "offset_of",
    "publish",
    "scan",
    "seed",
]

CHECKPOINT_SECONDS = 1.0
"""Passes shorter than this share a checkpoint."""
LOOKS = 20.0
"""Where a look at the data's files takes long, checkpoints are so many times as long apart."""
REPORT_ROWS = 5000
"""Rows of the sample that are kept with the result, for pictures."""


def scan(session: Session) -> Scanned:
    """Look at all rows once: count, check, choose the transform; make the blocks ready.

    Raises
    ------
    DataError
        The data cannot be fitted as the config asks: missing values, no usable rows, bad weights;
        or an interrupted run finds other data than it started with.
    """
    session.observe(PhaseStarted("scan"))
    config, source = session.config, session.source
    earlier_parts(config, source)  # refused before hours of work, not after them
    session.unchanged = Unchanged.now(config.locate(config.data.path), str(session.folder.path))
    for sentence, counted in absent_chunks(source):
        if counted or getattr(config.data, "absent_chunks", "error") == "fill":
            session.observe(Warned(f"{sentence}."))
        else:
            raise DataError(
                f"{sentence}.",
                "Restore them; if they were never written because they hold nothing else, set "
                "data.absent_chunks: fill.",
            )
    full = config.data.scale == "whiten" or source.d <= 64
    raw = source.blocks(Transform.identity("keep"))
    with session.executor.open(raw, resident=False, partitions=config.cluster.partitions) as blocks:
        found = session.passes(blocks).map_reduce(ScanPass(scatter=full))
        config.model.examine(session.passes(blocks), found, source)
    check(found, source.features, config.data.missing, source.locate)
    least = max(config.model.n_components)
    if found.usable < least:
        rows = "1 usable row" if found.usable == 1 else f"{found.usable:,} usable rows"
        raise DataError(
            f"The data has {rows}, fewer than the {least} components asked for.",
            "Ask for fewer components.",
        )
    for remark in remarks(found, source.features, config.data.missing):
        session.observe(Warned(remark))
    with one_blas_thread():
        transform = transform_for(found, config.data.scale, config.fit.precision)
        if any(factor != 1.0 for factor in source.emphasis):
            transform = transform.emphasised(np.array(source.emphasis))
        transform = config.model.units(transform)
    ready = source.blocks(transform)
    with session.interruptible():  # resident rows are read in here
        opened = session.resources.enter_context(
            session.executor.open(ready, resident=session.plan.resident, partitions=config.cluster.partitions)
        )
    session.unchanged.require()
    described = json.dumps(source.describe(), sort_keys=True)
    fingerprint = hashlib.sha256(f"{described}\n{digest(found)}".encode()).hexdigest()
    session.facts |= {"fingerprint": fingerprint, "usable_rows": found.usable, "mass": found.mass}
    return Scanned(found, transform, session.passes(opened), fingerprint)


def seed(session: Session, scanned: Scanned) -> Seeded:
    """Draw the sample and start every candidate; after an interruption, take up where they stood.

    Raises
    ------
    DataError
        The data changed since the checkpoint.
    """
    session.observe(PhaseStarted("seed"))
    config = session.config.model_copy(update={"model": session.config.model.seen(scanned.scan)})
    kept = session.checkpoints.latest("seed")
    if kept is not None and kept[1]["fingerprint"] != scanned.fingerprint:
        raise DataError(
            "The data is not what it was when this run was interrupted.",
            "Run with --fresh to begin again with the data as it is now.",
        )
    if kept is not None and kept[1].get("version") != __version__:
        session.observe(
            Warned(
                f"This run was begun by distem {kept[1].get('version')} and goes on with {__version__}: "
                "its bits may be those of neither."
            )
        )
    if kept is None:
        # drawn once: a smaller sample is the beginning of a larger one
        sizes = samples_first(config, session.source.n, scanned.scan.d)
        most = max(config.fit.sample_rows, *sizes, 0)
        drawn = scanned.blocks.map_reduce(seeding.DrawSample(most, scanned.scan.usable, config.seed))
        sample = drawn.first(config.fit.sample_rows)
    else:
        arrays = kept[0]
        parts = arrays["keys"], arrays["values"], arrays["weights"], arrays.get("addresses")
        sample = seeding.Sample(config.fit.sample_rows, *parts)
    models = candidates(config, model_variance(scanned.scan, scanned.transform), scanned.transform.scale)
    samples = _samples(session, sample)
    fits = {
        name if fold is None else without(name, fold): (model, fold)
        for fold in samples
        for name, (model, _, _) in models.items()
    }
    if kept is None:
        starts: dict[str, Any] = {}
        learnt: Learnt = {}
        large = _samples(session, drawn)
        for fold, part in samples.items():
            with one_blas_thread():
                begun = [
                    starting_parameters(
                        config,
                        models,
                        session.source.features,
                        scanned.scan,
                        scanned.transform,
                        scanned.blocks,
                        part,
                        fold,
                        attempt,
                    )
                    for attempt in range(tries(config))
                ]
            named = [
                {name if fold is None else without(name, fold): p for name, p in each.items()}
                for each in begun
            ]
            here = {name: fits[name][0] for name in named[0]}
            started = likeliest(config, here, named, part, session.passes)
            found = climb_on_samples(config, here, started, large[fold], sizes, session.passes)
            starts, learnt = starts | found.starts, learnt | found.learnt
            session.sampled += _told(found, fold)
        _keep_seed(session, scanned, {name: fits[name][0] for name in fits}, starts, learnt, sample)
    else:
        starts = {
            name: model.from_arrays({p: kept[0][f"start/{name}/{p}"] for p in kept[1]["parameters"]})
            for name, (model, _) in fits.items()
        }
        learnt = {
            name: {
                path.removeprefix(f"learnt/{name}/"): value
                for path, value in kept[0].items()
                if path.startswith(f"learnt/{name}/")
            }
            for name in fits
        }
        session.sampled += kept[1]["sampled"]
    climbs = [
        at_the_foot(config, name, model, starts[name], samples[fold], fold)
        for name, (model, fold) in fits.items()
    ]
    for fit_ in climbs:
        fit_.accelerator.restore(learnt.get(fit_.name, {}))
    state = session.checkpoints.latest("pass")
    if kept is not None and state is not None:
        restore(climbs, *state)
        session.pass_seconds[:] = state[1]["seconds"]
        session.warnings += [w for w in state[1]["warnings"] if w not in session.warnings]
        session.observe(Resumed(max(len(c.trace) for c in climbs)))
    return Seeded(climbs, {name: model for name, (model, _, _) in models.items()}, starts, sample)


def _samples(session: Session, sample: seeding.Sample) -> dict[int | None, seeding.Sample]:
    """What the fits may start from: all of the sample, and for each fold what it does not hold out."""
    folds = folds_of(session.config)
    least = max(session.config.model.n_components)
    found: dict[int | None, seeding.Sample] = {None: sample}
    if folds is not None:
        found |= {fold: rest_of(sample, folds, fold, least) for fold in range(folds.count)}
    return found


def _told(sampled: Sampled, fold: int | None) -> list[dict[str, int]]:
    """What the manifest says of climbs on samples; `without_fold` counts from 1, as names do."""
    held = {} if fold is None else {"without_fold": fold + 1}
    return [{"rows": rows, "passes": passes} | held for rows, passes in sampled.passes]


def _keep_seed(
    session: Session,
    scanned: Scanned,
    models: dict[str, Model],
    starts: dict[str, Any],
    learnt: Learnt,
    sample: seeding.Sample,
) -> None:
    arrays: Arrays = {"keys": sample.keys, "values": sample.values, "weights": sample.weights}
    if sample.addresses is not None:
        arrays["addresses"] = sample.addresses
    parameters: list[str] = []
    for name, params in starts.items():
        named = models[name].arrays(params)
        parameters = list(named)
        arrays |= {f"start/{name}/{p}": value for p, value in named.items()}
    for name, parts in learnt.items():
        arrays |= {f"learnt/{name}/{part}": value for part, value in parts.items()}
    begun = {"identity": session.identity, "version": __version__}
    info = begun | {"fingerprint": scanned.fingerprint, "parameters": parameters, "sampled": session.sampled}
    session.checkpoints.save("seed-000000", arrays, info)


def fit(session: Session, scanned: Scanned, seeded: Seeded) -> Fitted:
    """Climb with all candidates in shared passes, with checkpoints, and choose the best."""
    session.observe(PhaseStarted("fit"))
    climbs = seeded.climbs
    offset = offset_of(session, scanned, climbs[0].model)
    last, rest = 0.0, CHECKPOINT_SECONDS

    def keep(*, force: bool = False) -> None:
        nonlocal last, rest
        if force or time.monotonic() - last >= rest:
            began = time.monotonic()
            session.still_the_same()  # before a checkpoint of passes over other data can count
            rest = apart(time.monotonic() - began)
            arrays, info = dump(climbs)
            number = max(len(c.trace) for c in climbs)
            info |= {"seconds": session.pass_seconds, "warnings": session.warnings}
            session.checkpoints.save(f"pass-{number:06d}", arrays, info)
            last = time.monotonic()

    look = sightings(session, scanned, seeded)

    def between() -> None:
        keep()
        look(climbs)

    try:
        climb(
            climbs,
            scanned.blocks,
            observe=session.observe,
            after_pass=between,
            offset=offset,
            drop=dropping(session.config),
            folds=folds_of(session.config),
        )
    except Interrupted as error:
        if isinstance(error, StoreError):
            session.folder.hurry()  # it may be the same server: it had its time
        if any(c.trace for c in climbs):  # passes since the last checkpoint are kept
            keep(force=True)
        raise
    look(climbs, last=True)
    keep(force=True)
    validated = validate(session, scanned, seeded)
    with one_blas_thread():
        return choose(session, scanned, seeded, validated)


def apart(looking: float) -> float:
    """Seconds between checkpoints, where so many go into a look at the data's files before each."""
    return CHECKPOINT_SECONDS * max(1.0, LOOKS * looking)


def publish(
    session: Session,
    scanned: Scanned,
    seeded: Seeded,
    fitted: Fitted,
    more: Mapping[str, xr.Dataset] | None = None,
) -> None:
    """Write model, trace, selection and sample beside the assignment, and mark the result complete.

    `more` are a pipeline's own groups, by name.
    """
    session.observe(PhaseStarted("finalise"))
    path, its = session.folder.result, fitted.model.family
    offset, sample = fitted.model.offset, seeded.sample
    results.write_group(path, "model", model_dataset(fitted.model, fitted.start, fitted.numbered))
    results.write_group(
        path,
        "trace",
        trace_dataset(fitted.fits, fitted.chosen, session.pass_seconds, offset, its.objective),
    )
    results.write_group(
        path,
        "selection",
        selection_dataset(fitted.fits, fitted.scores, fitted.chosen, offset, its),
    )
    results.write_group(
        path,
        "sample",
        sample_dataset(fitted.model, sample.values[:REPORT_ROWS], sample.weights[:REPORT_ROWS]),
    )
    if session.config.model.chained:
        more = _of_sequences(session, scanned, fitted) | dict(more or {})
    for name, dataset in (more or {}).items():
        results.write_group(path, name, dataset)
    session.still_the_same()
    session.lease.confirm()
    results.finalise(path)


def _of_sequences(session: Session, scanned: Scanned, fitted: Fitted) -> dict[str, xr.Dataset]:
    """What a chain of states has to show besides: a decoded stretch, and scores where they are asked for."""
    config, found = session.config, {}
    written = config.output.variables
    if written:
        name = "path" if "path" in written else "label"
        held = decoded.stretches(session.source, results.assigned(session.folder.result, name))
        if held is not None:
            found["series"] = held
    if getattr(config.model, "score_sequences", False):
        found["sequences"] = decoded.sequence_scores(fitted.model, scanned.blocks)
    return found
