"""What happens to a component that collapses: it is put elsewhere, and in the end dropped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from distem._random import generator
from distem.models.base import Model
from distem.types import Float64


@dataclass(frozen=True, eq=False)
class Repair:
    """A policy for collapsed components.

    Parameters
    ----------
    sample : ndarray, shape (m, d)
        Rows of the data, in the model's units, to which components may be moved.
    seed : int
        Seed of the run.
    moves : int
        How often a candidate may move a component before it drops it instead.
    """

    sample: Float64
    seed: int
    moves: int

    def mend(
        self, model: Model, params: Any, component: int, *, key: tuple[int, ...], done: int
    ) -> tuple[Any, str]:
        """Move a component to a random row of the sample, or drop it.

        Parameters
        ----------
        key : tuple of int
            Pass and component: what the random choice depends on.
        done : int
            Repairs made so far.

        Returns
        -------
        params, action
            The mended parameters, and "reseeded" or "dropped".
        """
        if done < self.moves and len(self.sample):
            row = generator(self.seed, "reseed", *key).integers(len(self.sample))
            return model.relocate(params, component, self.sample[row]), "reseeded"
        return model.drop(params, component), "dropped"
