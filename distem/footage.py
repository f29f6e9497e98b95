"""Frames that layers are followed through: looked at once, before anything is fitted."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import cast

from distem.config.motion import MotionConfig
from distem.data.prepare import check
from distem.data.scan import Scan, digest
from distem.data.transform import Transform
from distem.errors import ConfigError, DataError
from distem.events import PhaseStarted
from distem.motion.frames import SourceFrames
from distem.motion.layers import Estimator
from distem.motion.ranges import RangesPass
from distem.motion.tracks import TracksModel
from distem.session import Session

LEAST_SIDE = 8
"""Pixels that a frame must have along each side."""
LEAST_EACH = 32
"""Pixels that a frame must have for each motion."""


@dataclass(frozen=True, eq=False)
class Footage:
    """Frames after one look at all of them.

    Attributes
    ----------
    scan : Scan
        Of their values.
    estimator : Estimator
        Of their layers.
    fingerprint : str
        SHA-256 of what the data is and holds.
    width : float
        Of the window of evidence.
    """

    scan: Scan
    estimator: Estimator
    fingerprint: str
    width: float

    @property
    def frames(self) -> SourceFrames:
        """The frames."""
        return cast(SourceFrames, self.estimator.frames)

    @property
    def pairs(self) -> int:
        """How many times there are motions: between frames, or in every flow field."""
        return self.frames.count - (self.estimator.flow is None)

    @property
    def model(self) -> TracksModel:
        """What the tracks are about."""
        return TracksModel(self.estimator.asked.design, *self.frames.shape)


def look(session: Session) -> Footage:
    """Look at all frames once: are they frames, and what is the range of their values?

    Raises
    ------
    DataError
        They are not on (time, y, x), too few or too small, or values are missing.
    ConfigError
        The model is of another kind.
    """
    session.observe(PhaseStarted("scan"))
    config, source = session.config, session.source
    model = config.model
    if not isinstance(model, MotionConfig):
        raise ConfigError(
            f"The pipeline {config.pipeline} follows motions; model.kind is {model.kind}.",
            "Set model.kind: motion.",
        )
    flow = _flow(source.features) if model.input == "flow" else None
    if len(source.dims) != 3:
        raise DataError(
            f"Motions need frames on three dimensions, time, y and x; the data has "
            f"{len(source.dims)}: {', '.join(source.dims)}.",
            "Name them in data.sample_dims.",
        )
    count, height, width = source.shape
    if flow is None and count < 2:
        raise DataError(
            f"The video has {count} frame{'s' * (count != 1)}: motion is between two at least.",
            "Give more frames.",
        )
    if min(height, width) < LEAST_SIDE:
        raise DataError(
            f"A frame has {height} × {width} pixels, fewer than {LEAST_SIDE} along a side.",
            "Give larger frames, or check the order of data.sample_dims: time, y, x.",
        )
    if height * width < LEAST_EACH * model.motions:
        raise ConfigError(
            f"{model.motions} motions are asked for in frames of {height} × {width} pixels: that is "
            f"{height * width // model.motions} pixels each, and {LEAST_EACH} are the least.",
            f"Ask for {max(1, height * width // LEAST_EACH)} motions or fewer; most scenes have 2 to 5.",
        )
    raw = source.blocks(Transform.identity("keep"))
    with session.executor.open(raw, resident=False, partitions=config.cluster.partitions) as blocks:
        ranges = session.passes(blocks).map_reduce(RangesPass(count))
    found = ranges.scan
    check(found, source.features, config.data.missing, source.locate)
    low, high = float(found.minimum.min()), float(found.maximum.max())
    if not high > low:
        raise DataError(f"All pixels are {low:g}: nothing can be seen to move.", "Check data.features.")
    if flow is None and len(ranges.blank):
        t = int(ranges.blank[0])
        raise DataError(
            f"{len(ranges.blank)} of {count} frames are of one grey value, the first frame {t}, of "
            f"{ranges.low[t]:g}: nothing can be seen to move there.",
            "Leave such frames out (data.path, or options.first, count and step of a video).",
        )
    frames = SourceFrames(source, low, high - low) if flow is None else SourceFrames(source)
    described = json.dumps(source.describe(), sort_keys=True)
    fingerprint = hashlib.sha256(f"{described}\n{digest(found)}".encode()).hexdigest()
    session.facts |= {"fingerprint": fingerprint, "usable_rows": found.usable, "mass": found.mass}
    estimator = Estimator(model.asked(config), frames, session.executor, flow, session.passes)
    return Footage(found, estimator, fingerprint, model.width)


def _flow(features: tuple[str, ...]) -> tuple[int, int]:
    if len(features) != 2:
        raise DataError(
            f"A flow field has two features, u along x and v along y; the data has {len(features)}: "
            f"{', '.join(features)}.",
            "Name them in data.features.",
        )
    u = features.index("u") if set(features) == {"u", "v"} else 0
    return 1 - u, u
