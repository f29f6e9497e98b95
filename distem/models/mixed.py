"""A component that is a mixture itself: what a hidden state says in several voices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from distem.models.base import Moments, log_weights
from distem.models.gaussian import Gaussian, GaussianTheta
from distem.types import Bools, Float64, Ints, Rows

NOTHING = 1e-300


@dataclass(frozen=True, slots=True, eq=False)
class MixedTheta:
    """Mixing weights (k, m) of each state, and the k * m Gaussians, those of a state together."""

    mixing: Float64
    gaussians: GaussianTheta


@dataclass(frozen=True, eq=False)
class MixedGaussians:
    """For each of k states a mixture of m Gaussians.

    Parameters
    ----------
    gaussian : Gaussian
        The family of all of them.
    voices : int
        Gaussians of a state, m.
    tied : bool
        Whether the Gaussians of a state, which are full then, have one covariance.
    """

    gaussian: Gaussian
    voices: int = 1
    tied: bool = False

    def _joint(self, rows: Rows, theta: MixedTheta) -> Float64:
        """Log densities with their weights, shape (n, k, m)."""
        logs = self.gaussian.log_density(rows, theta.gaussians) + log_weights(theta.mixing).ravel()
        return logs.reshape(-1, *theta.mixing.shape)

    def log_density(self, rows: Rows, theta: MixedTheta) -> Float64:
        """Log densities, shape (n, k)."""
        return np.ascontiguousarray(logsumexp(self._joint(rows, theta), axis=2))

    def accumulate(self, rows: Rows, resp: Float64, theta: MixedTheta) -> Moments:
        """Moments of all k * m Gaussians."""
        joint = self._joint(rows, theta)
        with np.errstate(invalid="ignore"):
            within = np.exp(joint - logsumexp(joint, axis=2, keepdims=True))
        within = np.where(np.isfinite(within), within, 1.0 / theta.mixing.shape[1]) * resp[:, :, None]
        flat = np.ascontiguousarray(within.reshape(len(resp), theta.mixing.size))
        return self.gaussian.accumulate(rows, flat, theta.gaussians)

    def maximise(self, moments: Moments, theta: MixedTheta, least_mass: float) -> MixedTheta:
        """Shares within each state; means and covariances of all."""
        mass = moments.mass.reshape(theta.mixing.shape) + least_mass
        mixing = mass / mass.sum(axis=1, keepdims=True)
        gaussians = self.gaussian.maximise(moments, theta.gaussians, least_mass)
        return MixedTheta(mixing, self.tie(gaussians, mixing))

    def tie(self, gaussians: GaussianTheta, mixing: Float64) -> GaussianTheta:
        """The same Gaussians, with one covariance for those of a state where that is asked for."""
        if not self.tied:
            return gaussians
        covariances = gaussians.covariances.reshape(*mixing.shape, *gaussians.covariances.shape[1:])
        shared = np.einsum("km,km...->k...", mixing, covariances)
        return self.gaussian.theta(gaussians.means, np.repeat(shared, mixing.shape[1], axis=0))

    def expected_log_density(self, moments: Moments, theta: MixedTheta) -> float:
        """Sum of r log(c N), over states and their Gaussians."""
        seen = moments.mass > 0
        mixing = float(np.sum(moments.mass[seen] * log_weights(theta.mixing).ravel()[seen]))
        return mixing + self.gaussian.expected_log_density(moments, theta.gaussians)

    def masses(self, moments: Moments) -> Float64:
        """Rows of each state, shape (k,)."""
        return np.asarray(moments.mass.reshape(-1, self.voices).sum(axis=1))

    def point_like(self, theta: MixedTheta) -> Bools:
        """States all of whose Gaussians are without spread, shape (k,)."""
        return np.asarray(self.gaussian.point_like(theta.gaussians).reshape(theta.mixing.shape).all(axis=1))

    def n_parameters(self, theta: MixedTheta) -> int:
        """Shares, means and covariances."""
        k, m = theta.mixing.shape
        each = self.gaussian.n_parameters(theta.gaussians)
        if self.tied:
            d = theta.gaussians.means.shape[1]
            each -= k * (m - 1) * d * (d + 1) // 2
        return int(k * (m - 1) + each)

    def pack(self, theta: MixedTheta) -> Float64:
        """Log shares, then the Gaussians' vector."""
        logs = np.log(np.maximum(theta.mixing, NOTHING)).ravel()
        return np.concatenate([logs, self.gaussian.pack(theta.gaussians)])

    def unpack(self, vector: Float64, like: MixedTheta) -> MixedTheta:
        """The parameters of `vector`."""
        logs = vector[: like.mixing.size].reshape(like.mixing.shape)
        shares = np.exp(logs - logs.max(axis=1, keepdims=True)) * (like.mixing > 0)
        shares /= shares.sum(axis=1, keepdims=True)
        gaussians = self.gaussian.unpack(vector[like.mixing.size :], like.gaussians)
        return MixedTheta(shares, self.tie(gaussians, shares))

    def natural(self, differences: Float64, weights: Float64, theta: MixedTheta) -> Float64:
        """Differences of packed parameters (m, p) in units of the information of one row."""
        count, mixing = theta.mixing.size, theta.mixing
        logs = differences[:, :count].reshape(-1, *mixing.shape)
        logs = logs - (logs * mixing).sum(axis=2, keepdims=True)
        shares = weights[:, None] * mixing
        logs = (logs * np.sqrt(shares)).reshape(len(differences), -1)
        rest = self.gaussian.natural(differences[:, count:], shares.ravel(), theta.gaussians)
        return np.concatenate([logs, rest], axis=1)

    def relocate(self, theta: MixedTheta, weights: Float64, component: int, where: Float64) -> MixedTheta:
        """Put a state's Gaussians at a place, side by side."""
        m = theta.mixing.shape[1]
        shares = (weights[:, None] * theta.mixing).ravel()
        gaussians = theta.gaussians
        spread = 1e-3 * np.sqrt(np.maximum(np.diagonal(self._matrices(gaussians).mean(axis=0)), 0.0))
        for voice in range(m):
            at = where + (voice - (m - 1) / 2) * spread
            gaussians = self.gaussian.relocate(gaussians, shares, component * m + voice, at)
        mixing = theta.mixing.copy()
        mixing[component] = 1.0 / m
        return MixedTheta(mixing, gaussians)

    def _matrices(self, gaussians: GaussianTheta) -> Float64:
        return self.gaussian.shape.matrices(gaussians.covariances, *gaussians.means.shape)

    def drop(self, theta: MixedTheta, component: int) -> MixedTheta:
        """Without one state."""
        m, gaussians = theta.mixing.shape[1], theta.gaussians
        for _ in range(m):
            gaussians = self.gaussian.drop(gaussians, component * m)
        return MixedTheta(np.delete(theta.mixing, component, axis=0), gaussians)

    def sample(self, theta: MixedTheta, counts: Ints, rng: np.random.Generator) -> Float64:
        """Draw `counts[k]` rows from each state, in order of state."""
        drawn = []
        split = [rng.multinomial(count, shares) for count, shares in zip(counts, theta.mixing, strict=True)]
        rows = self.gaussian.sample(theta.gaussians, np.concatenate(split), rng)
        start = 0
        for count in counts:
            drawn.append(rng.permutation(rows[start : start + count], axis=0))
            start += int(count)
        return np.concatenate(drawn)

    def arrays(self, theta: MixedTheta) -> dict[str, Float64]:
        """The parameters as named arrays."""
        return {"mixing": theta.mixing, **self.gaussian.arrays(theta.gaussians)}

    def from_arrays(self, arrays: Mapping[str, Float64]) -> MixedTheta:
        """The parameters of `arrays`, bit for bit."""
        return MixedTheta(arrays["mixing"], self.gaussian.from_arrays(arrays))

    def begin(self, values: Float64, resp: Float64, label_within: Ints, means: Float64) -> MixedTheta:
        """Starting parameters from hard assignments of a few rows to states and, within these, to Gaussians.

        Parameters
        ----------
        values : ndarray, shape (n, d)
        resp : ndarray, shape (n, k)
        label_within : ndarray of int, shape (n,)
        means : ndarray, shape (k * m, d)
        """
        m = self.voices
        k = resp.shape[1]
        both = (resp[:, :, None] * np.eye(m)[label_within][:, None, :]).reshape(len(values), k * m)
        gaussians = self.gaussian.begin(Rows(values), both, means)
        mass = both.sum(axis=0).reshape(k, m) + 1.0
        mixing = mass / mass.sum(axis=1, keepdims=True)
        return MixedTheta(mixing, self.tie(gaussians, mixing))
