"""Made scenes whose motions are known: flow fields, and pairs of pictures of a moving disc."""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy.ndimage import binary_closing, gaussian_filter

from distem.kernels.warping_reference import look
from distem.motion.designs import Geometry, displacement

LAYERS = np.array(
    [
        [[0.5, 0.2, -0.1], [-1.0, 0.1, 0.3]],
        [[-2.0, 0.4, 0.5], [3.0, -0.6, 0.2]],
        [[4.0, -0.3, 0.1], [1.0, 0.8, -0.5]],
    ]
)
"""Affine motions of three layers, along y and x."""


def flow(
    seed: int = 0, shape=(90, 120), noise: float = 0.2, frames: int = 2
) -> tuple[xr.Dataset, np.ndarray]:
    """Fields u, v of three layers, noise and a tenth of outliers; and each pixel's layer, 3 for outliers."""
    rng = np.random.default_rng(seed)
    h, w = shape
    y, x = np.meshgrid(np.arange(h, dtype=float), np.arange(w, dtype=float), indexing="ij")
    at = Geometry(h, w).coordinates(y, x)
    fields, labels = [], []
    for t in range(frames):
        label = np.zeros(shape, dtype=int)
        label[(y - 30) ** 2 + (x - 35 - 3 * t) ** 2 < 22**2] = 1
        label[h - 35 :, w - 50 :] = 2
        moved = np.stack([displacement(motion, "affine", *at) for motion in LAYERS])
        field = np.take_along_axis(moved, label[None, None], axis=0)[0] + noise * rng.normal(size=(2, h, w))
        bad = rng.random(shape) < 0.1
        field[:, bad] = rng.uniform(-12, 12, size=(2, int(bad.sum())))
        label[bad] = 3
        fields.append(field)
        labels.append(label)
    found = np.stack(fields)
    dims = ("time", "y", "x")
    return xr.Dataset({"u": (dims, found[:, 1]), "v": (dims, found[:, 0])}), np.stack(labels)


PAIR = np.array([[[0.8, 0.2, -0.2], [-1.4, 0.1, 0.3]], [[-1.2, 0.0, 0.4], [2.2, -0.4, 0.1]]])
"""Affine motions of the ground and of the disc."""


def pictures(
    seed: int = 0, shape=(96, 128), frames: int = 2, noise: float = 0.003, stray: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Grey frames (t, h, w), each moved by `PAIR` against the last, and whether a pixel is the disc's.

    A share `stray` of every frame's pixels has any grey value; their number in the masks is 2.
    """
    rng = np.random.default_rng(seed)
    h, w = shape
    margin = 40

    def texture() -> np.ndarray:
        size = (h + 2 * margin, w + 2 * margin)
        found = sum(gaussian_filter(rng.normal(size=size), s) * s for s in (1.5, 3, 6))
        return (found - found.min()) / np.ptp(found)

    ground, disc = texture(), texture()
    geometry = Geometry(h, w)
    y, x = np.meshgrid(np.arange(h, dtype=float), np.arange(w, dtype=float), indexing="ij")
    shots, masks = [], []
    places = [(y, x), (y, x)]
    for t in range(frames):
        own = (places[1][0] - 48) ** 2 + (places[1][1] - 60) ** 2 < 26**2
        seen = []
        for picture, (at_y, at_x) in zip((ground, disc), places, strict=True):
            value = look(picture, at_y.ravel() + margin, at_x.ravel() + margin)[0]
            seen.append(value.reshape(shape))
        shots.append(np.where(own, seen[1], seen[0]) + noise * rng.normal(size=shape))
        masks.append(own)
        if t < frames - 1:
            places = [_before(geometry, motion, *place) for motion, place in zip(PAIR, places, strict=True)]
    found, labels = np.stack(shots), np.stack(masks).astype(np.int64)
    if stray:
        bad = rng.random(found.shape) < stray
        found[bad] = rng.uniform(0, 1, int(bad.sum()))
        labels[bad] = 2
    return found, labels


def seen(masks: np.ndarray) -> np.ndarray:
    """Which pixels of all frames but the last have a right answer: the next frame has them too.

    Stray ones have none. The disc hides a part of the ground, and what leaves the frame has no place in it.
    """
    h, w = masks.shape[1:]
    y, x = np.meshgrid(np.arange(h, dtype=float), np.arange(w, dtype=float), indexing="ij")
    found = np.zeros(masks[:-1].shape, dtype=bool)
    discs = [binary_closing(np.pad(mask == 1, 4), iterations=3)[4:-4, 4:-4] for mask in masks]
    for layer, motion in enumerate(PAIR):
        dy, dx = displacement(motion, "affine", *Geometry(h, w).coordinates(y, x))
        there = np.rint(y + dy).astype(int), np.rint(x + dx).astype(int)
        inside = (there[0] >= 0) & (there[0] < h) & (there[1] >= 0) & (there[1] < w)
        for t, after in enumerate(discs[1:]):
            same = after[there[0].clip(0, h - 1), there[1].clip(0, w - 1)] == layer
            found[t] |= (masks[t] == layer) & inside & same
    return found


def _before(
    geometry: Geometry, motion: np.ndarray, y: np.ndarray, x: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Where what is now at every pixel was in the first frame, given where the last frame's pixels were."""
    h, w = y.shape
    now_y, now_x = np.meshgrid(np.arange(h, dtype=float), np.arange(w, dtype=float), indexing="ij")
    back_y, back_x = now_y.copy(), now_x.copy()
    for _ in range(40):  # p + u(p) = here
        dy, dx = displacement(motion, "affine", *geometry.coordinates(back_y, back_x))
        back_y, back_x = now_y - dy, now_x - dx
    # affine maps stay affine: take them through the earlier ones by their corners
    basis = np.stack([np.ones(h * w), now_y.ravel(), now_x.ravel()], axis=1)
    maps = [np.linalg.lstsq(basis, place.ravel(), rcond=None)[0] for place in (y, x)]
    at = np.stack([np.ones(h * w), back_y.ravel(), back_x.ravel()], axis=1)
    return (at @ maps[0]).reshape(h, w), (at @ maps[1]).reshape(h, w)
