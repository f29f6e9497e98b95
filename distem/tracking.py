"""The stages of a run that follows layers through a video, after a look at it: track, place, publish.

Like those of `stages` each goes on where an interrupted run left it: after every pair of frames all that the
next one depends on is in a checkpoint.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, cast

import numpy as np
import xarray as xr
import zarr

from distem.data import results
from distem.data.assignment import AssignmentWriter, create_assignment
from distem.data.grid import Grid
from distem.data.transform import Transform
from distem.em.loop import Fit
from distem.em.selection import Score
from distem.em.stopping import Reason, TracePoint
from distem.errors import DataError, Interrupted
from distem.events import CandidateDone, Note, PassDone, PassTimed, PhaseStarted, Resumed, Shares
from distem.fitted import FittedModel
from distem.footage import LEAST_EACH, Footage, look
from distem.models.base import Model
from distem.motion.assign import AssignLayers
from distem.motion.evidence import EvidenceTile, grown, reach_of
from distem.motion.frames import tiles
from distem.motion.layers import AT_REST, LOST, Estimator, Layers
from distem.motion.tiles import BrightnessTile, FlowTile
from distem.motion.tracks import Tracks
from distem.stages import REPORT_ROWS, Fitted, Session
from distem.tables import selection_dataset, trace_dataset

SHOWN, SHOWN_WIDTH = 12, 480
"""Frames that are kept for the report, and their pixels across."""
ALIKE = 0.1
"""Pixels: layers whose motions differ by less at every corner are one."""
CHECKPOINT_SECONDS = 1.0
"""Pairs that take less share a checkpoint."""


@dataclass(frozen=True, slots=True)
class _Sum:
    """What `Fit` asks of statistics."""

    n: int
    total: float
    log_likelihood: float

    @property
    def mean_log_likelihood(self) -> float:
        return self.log_likelihood / self.total


def track(session: Session, footage: Footage) -> Tracks:
    """Fit the layers of every pair, each from those of the pair before.

    Raises
    ------
    DataError
        The data changed since the checkpoint.
    """
    session.observe(PhaseStarted("fit"))
    kept = session.checkpoints.latest("pair")
    tracks: Tracks | None = None
    if kept is not None:
        if kept[1]["fingerprint"] != footage.fingerprint:
            raise DataError(
                "The data is not what it was when this run was interrupted.",
                "Run with --fresh to begin again with the data as it is now.",
            )
        tracks = footage.model.from_arrays(kept[0])
        session.pass_seconds[:] = kept[1]["seconds"]
        session.observe(Resumed(tracks.pairs))
    last, saved = 0.0, 0 if tracks is None else tracks.pairs

    def keep() -> None:
        if tracks is None or tracks.pairs == saved:
            return
        info = {"fingerprint": footage.fingerprint, "seconds": session.pass_seconds}
        session.checkpoints.save(f"pair-{tracks.pairs:06d}", footage.model.arrays(tracks), info)

    try:
        for t in range(saved, footage.pairs):
            started = time.monotonic()
            if footage.scan.missing:
                _enough(footage, t)
            before = None if tracks is None else (tracks.motions[-1], tracks.params(-1))
            layers = footage.estimator.fit(t, before)
            tracks = Tracks.of([layers]) if tracks is None else tracks + Tracks.of([layers])
            now = time.monotonic()
            _tell(session, t, layers, now - started)
            if now - last >= CHECKPOINT_SECONDS:
                keep()
                last, saved = now, tracks.pairs
    except Interrupted:  # pairs since the last checkpoint are kept
        keep()
        raise
    keep()
    if tracks is None:
        raise DataError("There is no pair of frames.", "Give more frames.")
    model, why = session.config.model, _fit(tracks).reason
    name = _name(model.n_components[0], model.variants[0])
    session.observe(CandidateDone(name, tracks.pairs, why.converged, why.sentence))
    for sentence in idle(footage.estimator, tracks):
        session.observe(Note(sentence))
    return tracks


def idle(estimator: Estimator, tracks: Tracks) -> list[str]:
    """What to say where more motions were asked for than there are."""
    k, told = estimator.asked.k, []
    empty = (tracks.weights[:, :k] < LOST).all(axis=0)
    if empty.any():
        layers = ", ".join(str(c) for c in np.flatnonzero(empty))
        told.append(
            f"in every pair fewer than {LOST:.0%} of the pixels follow the motion of layer {layers}: "
            f"model.motions: {k - int(empty.sum())} would do"
        )
    seen = [int(c) for c in np.flatnonzero(~empty)]
    for one, other in combinations(seen, 2):
        apart = estimator.corners(tracks.motions[:, one] - tracks.motions[:, other])
        if apart.max() < ALIKE:
            told.append(
                f"layers {one} and {other} move alike in every pair, within {ALIKE:g} pixels: nothing tells "
                "their pixels apart"
            )
    return told


def _enough(footage: Footage, t: int) -> None:
    """Refuse a pair whose pixels are missing, all or nearly."""
    asked = footage.estimator.asked
    found, least = footage.estimator.comparable(t), LEAST_EACH * asked.k
    if found >= least:
        return
    what = "Flow field" if footage.estimator.flow is not None else "Pair"
    frames = "" if footage.estimator.flow is not None else f", frames {t} and {t + 1},"
    raise DataError(
        f"{what} {t}{frames} has {found} pixels that are not missing, and {asked.k} motions need {least}.",
        "Leave out the frames whose pixels are missing, or fill them in.",
    )


def _tell(session: Session, t: int, layers: Layers, seconds: float) -> None:
    config = session.config
    name = _name(config.model.n_components[0], config.model.variants[0])
    session.observe(
        PassDone(
            pass_=t + 1,
            candidate=name,
            log_likelihood=layers.log_likelihood,
            gain_left=None,
            accepted=True,
            seconds=seconds,
            rows_per_s=layers.stats.n * layers.passes / max(seconds, 1e-9),
        )
    )
    if session.watched:
        session.observe(Shares(t + 1, name, {name: [round(float(w), 6) for w in layers.params.weights]}))
    session.observe(PassTimed(t + 1, 1, seconds, 0.0))


def place(session: Session, footage: Footage, tracks: Tracks) -> Tracks:
    """Label every pixel of every pair, in parallel, and find where the layers are."""
    session.observe(PhaseStarted("assign"))
    path, source = session.folder.result, session.source
    variables, asked = session.config.output.variables, footage.estimator.asked
    results.create_result(path)
    writer = None
    if variables:
        grid = Grid.regular(source.dims, source.shape, (1, asked.tile, asked.tile))
        writer = create_assignment(
            path,
            replace(source, grid=grid),
            tracks.k,
            variables,
            {"layers": "the camera or what is largest first; outliers, if there are, last"},
            encoding=session.config.output.encoding.build(),
        )
    blocks = _evidence(footage, tracks)
    run = AssignLayers(
        footage.estimator.model(),
        tuple(tracks.params(t) for t in range(tracks.pairs)),
        tuple(float(v) for v in tracks.outlier),
        tuple(blocks),
        footage.frames.shape,
        footage.width,
        writer,
    )
    with session.executor.open(blocks, resident=False) as opened:
        sums = session.passes(opened).map_reduce(run)
    if writer is not None:
        _leave_out(writer, footage, tracks.k)
    mass = np.maximum(sums.mass, 1e-300)
    return replace(tracks, places=np.stack([sums.y / mass, sums.x / mass], axis=-1))


def _evidence(footage: Footage, tracks: Tracks) -> list[EvidenceTile]:
    """The tiles of all pairs, numbered as the chunks of what is written."""
    reach = reach_of(footage.width)
    blocks: list[EvidenceTile] = []
    for t in range(tracks.pairs):
        for tile in footage.estimator.blocks(t, 0, tracks.motions[t]):
            if isinstance(tile, BrightnessTile | FlowTile):
                before = tracks.motions[t - 1] if t else None
                blocks.append(grown(len(blocks), tile, footage.frames.shape, reach, before))
    return blocks


def _leave_out(writer: AssignmentWriter, footage: Footage, k: int) -> None:
    """Write the last frame, which no other follows, as missing."""
    windows = tiles(footage.frames.shape, footage.estimator.asked.tile)
    none = np.zeros(0)
    for t in range(footage.pairs, footage.frames.count):
        for i, (rows, columns) in enumerate(windows):
            number = t * len(windows) + i
            kept = np.zeros((rows.stop - rows.start) * (columns.stop - columns.start), dtype=bool)
            chunks = range(number, number + 1)
            writer.write(chunks, kept, none.astype(np.int64), np.zeros((0, k)), none, none)


def publish(session: Session, footage: Footage, tracks: Tracks) -> Fitted:
    """Write tracks, trace and pictures beside the labels, and mark the result complete."""
    session.observe(PhaseStarted("finalise"))
    path, source = session.folder.result, session.source
    k, design = footage.estimator.asked.k, footage.estimator.asked.design
    model = FittedModel(
        cast(Model, footage.model),  # rows alone mean nothing to it, and climbs neither
        tracks,
        Transform.identity(),
        source.features,
        source.feature_attrs,
        source.describe(),
        kind="motion",
    )
    score = model.family.score(model.model, _fit(tracks), model.transform)
    chosen, fit = _name(k, design), _fit(tracks)
    fits, scores = {chosen: fit}, {chosen: score}
    results.write_group(path, "model", model.dataset())
    trace = trace_dataset(fits, chosen, session.pass_seconds, 0.0, model.family.objective)
    results.write_group(path, "trace", trace)
    results.write_group(path, "selection", selection_dataset(fits, scores, chosen, 0.0, model.family))
    shown = _shown(footage, path, tracks)
    results.write_group(path, "sample", _sample(footage, shown))
    results.write_group(path, "frames", shown)
    results.finalise(path)
    return Fitted(fits, scores, chosen, model, model, {})


def _name(k: int, design: str) -> str:
    return f"{k}-{design}-1"


def _fit(tracks: Tracks) -> Fit:
    """All pairs as one fit, a pair a pass."""
    total = float(tracks.pixels.sum())
    sums = _Sum(int(total), total, float(tracks.log_likelihood @ tracks.pixels))
    moving = int((tracks.converged == 0).sum())
    passes = int(tracks.passes.sum())
    sentence = f"All {tracks.pairs} pairs were fitted, in {passes} passes over their pixels"
    sentence += f"; in {moving} a motion still changed by more than {AT_REST} pixels." if moving else "."
    trace = tuple(TracePoint(float(value)) for value in tracks.log_likelihood)
    return Fit(tracks, sums, trace, Reason(moving == 0, sentence))


def _shown(footage: Footage, path: str, tracks: Tracks) -> xr.Dataset:
    """A few frames with their labels, small enough for a page."""
    frames, source = footage.frames, footage.frames.source
    pairs = np.unique(np.linspace(0, tracks.pairs - 1, SHOWN).round().astype(np.int64))
    step = max(1, -(-frames.shape[1] // SHOWN_WIDTH))
    whole = slice(0, frames.shape[0]), slice(0, frames.shape[1])
    pictures = []
    for t in pairs:
        bands = frames.bands(int(t), whole)[::step, ::step]
        if footage.estimator.flow is None and source.d == 3:
            picture = (bands - frames.low) / frames.span
        else:  # a grey value: of flow its speed
            grey = np.hypot(*np.moveaxis(bands, -1, 0)) if source.d == 2 else bands.mean(axis=2)
            top = np.nanmax(grey) if np.isfinite(grey).any() else 1.0
            grey = (
                (grey - frames.low) / frames.span
                if footage.estimator.flow is None
                else grey / max(top, 1e-300)
            )
            picture = np.repeat(grey[..., None], 3, axis=2)
        pictures.append((np.clip(np.nan_to_num(picture), 0, 1) * 255).round().astype(np.uint8))
    held: dict[str, Any] = {"picture": (("frame", "row", "column", "channel"), np.stack(pictures))}
    stored = results.opened(path).get("assignment/label")
    if isinstance(stored, zarr.Array):
        labels = [np.asarray(stored[int(t)])[::step, ::step] for t in pairs]
        held["label"] = (("frame", "row", "column"), np.stack(labels).astype(np.int32))
    return xr.Dataset(
        held, coords={"frame": pairs}, attrs={"step": step, "outliers": tracks.k > footage.estimator.asked.k}
    )


def _sample(footage: Footage, shown: xr.Dataset) -> xr.Dataset:
    """Some pixels of the first pair, as reports of other kinds have rows."""
    step = int(shown.attrs["step"])
    whole = slice(0, footage.frames.shape[0]), slice(0, footage.frames.shape[1])
    values = footage.frames.bands(0, whole)[::step, ::step].reshape(-1, footage.frames.source.d)
    every = max(1, -(-len(values) // REPORT_ROWS))
    label = shown["label"].values[0].ravel() if "label" in shown else np.zeros(len(values), np.int32)
    known = np.flatnonzero((label >= 0) & np.isfinite(values).all(axis=1))[::every]
    return xr.Dataset(
        {
            "values": (("row", "feature"), values[known]),
            "label": ("row", label[known].astype(np.int32)),
            "uncertainty": ("row", np.zeros(len(known))),
            "weights": ("row", np.ones(len(known))),
        },
        coords={"feature": np.array(footage.frames.source.features, dtype=str)},
    )


__all__ = ["Footage", "Score", "look", "place", "publish", "track"]
