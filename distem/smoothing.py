"""Assignment with spatial smoothing: a pass over blocks that come with a halo, which makes it exact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from distem.data.assignment import AssignmentWriter, Receipt
from distem.data.grid import Box, box_rows, box_shape
from distem.data.neighbours import as_pictures, from_pictures, spatial_axes, strips, within
from distem.fitted import FittedModel
from distem.kernels.potts import mean_field
from distem.types import Bools, Float64, Rows

_VALUES = 1 << 17  # responsibilities smoothed at a time: a few such arrays stay in cache


@dataclass(frozen=True)
class Smoothing:
    """Mean-field Potts smoothing.

    Attributes
    ----------
    beta : float
        How much a neighbour's label weighs, in log-odds.
    iterations : int
        How often; also how far a pixel looks.
    """

    beta: float = 1.0
    iterations: int = 5

    @property
    def halo(self) -> int:
        """Pixels about a rectangle that its answer depends on."""
        return self.iterations

    def __call__(self, resp: Float64, there: Bools | None, inner: Box) -> Float64:
        """Smooth a picture and return the inner part of it.

        Parameters
        ----------
        resp : ndarray, shape (y, x, k)
            Responsibilities; 0 where missing.
        there : ndarray of bool, shape (y, x), or None
            Which pixels are not missing.
        inner : (slice, slice)
            Rows and columns asked for.
        """
        down, across = inner
        k = resp.shape[-1]
        out = np.empty((down.stop - down.start, across.stop - across.start, k))
        rows, columns = out.shape[:2]
        for strip in strips(rows, columns, max(_VALUES // k, 4 * self.halo * columns)):
            top = max(0, down.start + strip.start - self.halo)
            seen = slice(top, down.start + strip.stop + self.halo)
            part = np.ascontiguousarray(np.moveaxis(resp[seen], -1, 0))
            made = mean_field(part, None if there is None else there[seen], self.beta, self.iterations)
            first = down.start + strip.start - top
            mine = made[:, first : first + strip.stop - strip.start, across]
            out[strip] = np.moveaxis(mine, 0, -1)
        return out


@dataclass(frozen=True, eq=False)
class SmoothRows:
    """The pass that assigns, smooths and writes; its blocks come with ``smoothing.halo`` pixels about them.

    Parameters
    ----------
    model : FittedModel
        The model, in the units the rows come in.
    writer : AssignmentWriter
        Where the answers go.
    smoothing : Smoothing
        How they are smoothed.
    done : frozenset of int
        Blocks that are written already.
    """

    model: FittedModel
    writer: AssignmentWriter
    smoothing: Smoothing
    done: frozenset[int] = frozenset()
    name: ClassVar[str] = "assign"

    def __call__(self, rows: Rows, block: int) -> Receipt:
        """Assign, smooth and write one block."""
        if block in self.done:
            return self.writer.nothing
        if rows.places is None:
            raise LookupError("These rows do not know where in the data they lie.")
        chunks = self.writer.chunks(block)
        found = self.model.assign(rows, probability=True)
        probability = np.zeros((rows.n, 0)) if found.probability is None else found.probability
        axes = spatial_axes(self.writer.grid.dims)
        inner = self.writer.grid.boxes(chunks)
        smoothed, kept = [], []
        picked = np.zeros(rows.n if rows.kept is None else len(rows.kept), np.bool_)
        at = 0
        for box, wide in zip(inner, rows.places.boxes, strict=True):
            part = slice(at, at + box_rows(wide))
            at = part.stop
            picked[part].reshape(box_shape(wide))[within(box, wide)] = True
            there = None if rows.kept is None else rows.kept[part]
            before = 0 if rows.kept is None else int(np.count_nonzero(rows.kept[: part.start]))
            made = self._box(_spread(probability, part, there, before), there, box, wide, axes)
            mine = None if there is None else there.reshape(box_shape(wide))[within(box, wide)].reshape(-1)
            smoothed.append(made if mine is None else made[mine])
            kept.append(mine)
        whole = np.concatenate(smoothed)
        usable = picked if rows.kept is None else picked[rows.kept]
        return self.writer.write(
            chunks,
            None if rows.kept is None else np.concatenate([mine for mine in kept if mine is not None]),
            whole.argmax(axis=1),
            whole,
            found.log_density[usable],
            1.0 - whole.max(axis=1, initial=0.0),
            None if rows.weights is None else rows.weights[usable],
        )

    def _box(self, resp: Float64, there: Bools | None, box: Box, wide: Box, axes: tuple[int, int]) -> Float64:
        """Smoothed responsibilities of a box, shape (rows, k)."""
        shape, k = box_shape(wide), resp.shape[1]
        inside = within(box, wide)
        planes = tuple(inside[axis] for axis in axes)
        pictures = as_pictures(resp.reshape(*shape, k), axes)
        masks: Any = [None] * len(pictures)
        if there is not None:
            masks = as_pictures(there.reshape(*shape, 1), axes)[..., 0]
        made = np.stack([self.smoothing(p, m, planes) for p, m in zip(pictures, masks, strict=True)])
        return from_pictures(made, box_shape(box), axes).reshape(-1, k)


def _spread(values: NDArray[Any], part: slice, there: Bools | None, before: int) -> NDArray[Any]:
    """The rows of a part, zeros among them where one is missing."""
    if there is None:
        return values[part]
    full = np.zeros((len(there), values.shape[1]))
    full[there] = values[before : before + int(np.count_nonzero(there))]
    return full
