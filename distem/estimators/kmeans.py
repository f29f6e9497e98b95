"""K-means with scikit-learn's arguments and attributes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.base import ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from distem._random import generator
from distem.data.prepare import model_variance, transform_for
from distem.data.scan import Scan
from distem.data.transform import Transform
from distem.em.loop import Climb, EStep, Fit, climb
from distem.em.repair import Repair
from distem.em.stopping import FirstOf, MaxPasses, Settled
from distem.errors import FitError
from distem.estimators.base import SAMPLE_ROWS, Estimator, scanned
from distem.execution.base import BlockSet, one_blas_thread
from distem.kernels import compiled_centres
from distem.models import kmeans as models
from distem.models import seeding
from distem.models.kmeans import KMeansParams
from distem.types import Float64, Ints

_INITS = {"k-means||": "kmeans||", "k-means++": "kmeans++", "random": "random_from_data"}


class KMeans(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, Estimator):  # type: ignore[misc]
    """Lloyd's k-means, on data of any size: the hard, spherical limit of a Gaussian mixture.

    The arguments and fitted attributes are those of ``sklearn.cluster.KMeans``; from the same centres every
    iteration has scikit-learn's labels, centres and inertia. Besides: Dask, xarray and Zarr input, whose last
    dimension is the feature, and exact bounds [1]_ that spare most distances where rows stay in memory.

    Parameters
    ----------
    n_clusters : int
        Number of clusters.
    init : {"k-means||", "k-means++", "random"}, callable or array-like, shape (n_clusters, d)
        How a start is made, or the first centres. "k-means||" [2]_ looks at all rows, in five passes; the
        others at a sample of 20,000, which a callable ``init(X, n_clusters, random_state)`` gets as well.
    n_init : int or "auto"
        Starts; the one with the least inertia is kept. All starts share each pass over the data; given
        centres are one start. "auto" is 10 for "random" and a callable, else 1, as in scikit-learn.
    max_iter : int
        Largest number of iterations.
    tol : float
        The fit ends when the squared shifts of the centres add up to no more than this times the mean
        variance of the features; 0 waits until no row changes its cluster.
    verbose, verbose_interval : int
        Print minus the inertia of every `verbose_interval`-th pass to the log "distem".
    random_state : int, RandomState or None
        Decides every random choice; for one of them the result does not depend on the executor.
    copy_x : bool
        Scikit-learn's; the input is never changed.
    algorithm : {"lloyd", "elkan"}
        Scikit-learn's; both name Lloyd's iterations, which are exact here as there.
    init_scale : {"none", "whiten"}
        Units in which a start measures distance: the data's, or whitened by its covariance.
    client : distributed.Client or None
        Where to run; default: the Dask client in scope, or else threads.

    Attributes
    ----------
    cluster_centers_ : ndarray, shape (k, d)
        A cluster that stays empty, however often it is put on a row of the data, is dropped: k may be less
        than `n_clusters`.
    labels_ : array, shape (...,)
        Nearest centre of each row; lazy where the input is.
    inertia_ : float
        Weighted sum of squared distances from the nearest centre.
    inertias_ : list of float
        The same before each iteration: one entry a pass.
    n_iter_ : int
        Iterations of the best start.
    converged_ : bool
    n_features_in_ : int

    See Also
    --------
    sklearn.cluster.KMeans

    References
    ----------
    .. [1] Hamerly, Making k-means even faster, SDM (2010).
    .. [2] Bahmani et al., Scalable k-means++, PVLDB 5 (2012).

    Examples
    --------
    >>> import numpy as np, distem
    >>> X = np.array([[1.0, 2.0], [1.0, 4.0], [1.0, 0.0], [10.0, 2.0], [10.0, 4.0], [10.0, 0.0]])
    >>> km = distem.KMeans(2, random_state=0).fit(X)
    >>> np.sort(km.cluster_centers_[:, 0])
    array([ 1., 10.])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_clusters": [Interval(Integral, 1, None, closed="left")],
        "init": [StrOptions(set(_INITS)), callable, "array-like"],
        "n_init": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0.0, None, closed="left")],
        "verbose": ["verbose"],
        "verbose_interval": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
        "copy_x": ["boolean"],
        "algorithm": [StrOptions({"lloyd", "elkan"})],
        "init_scale": [StrOptions({"none", "whiten"})],
        "client": [object, None],
    }

    cluster_centers_: Float64
    labels_: Any

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: Any = "k-means||",
        n_init: int | str = 1,
        max_iter: int = 300,
        tol: float = 1e-4,
        verbose: int = 0,
        verbose_interval: int = 10,
        random_state: Any = None,
        copy_x: bool = True,
        algorithm: str = "lloyd",
        init_scale: str = "none",
        client: Any = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.verbose = verbose
        self.verbose_interval = verbose_interval
        self.random_state = random_state
        self.copy_x = copy_x
        self.algorithm = algorithm
        self.init_scale = init_scale
        self.client = client

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:  # noqa: ARG002 -- scikit-learn's
        """Find the clusters.

        Parameters
        ----------
        X : array-like, shape (..., d)
            NumPy (n, d), a data frame, Dask, xarray or Zarr; features last.
        y : None
            Ignored.
        sample_weight : array-like, shape (...,), or None
            Non-negative weight of each row.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            Of distem's kinds: missing values (names the row), fewer rows than clusters, and so on.
        """
        self._validate_params()
        data = self._open(X, sample_weight, ("n_clusters", self.n_clusters))
        with self._executor(data, partial(compiled_centres.warm, "float64")) as executor:
            scan = scanned(data, executor)
            transform = _one_scale(transform_for(scan, "none"), data.d)
            model = models.KMeans()
            with self._blocks(data, transform, executor) as blocks:
                climbs = self._climbs(blocks, scan, transform, model)
                climb(climbs, blocks, observe=self._tell)
                best = max((c.fit for c in climbs), key=lambda fit: fit.log_likelihood)
                with one_blas_thread():  # as scikit-learn counts, an iteration ends with the move
                    params = model.m_step(best.stats, best.params)
                final = blocks.map_reduce(EStep(((model, params),))).each[0]
        self._keep(best, params, final.log_likelihood, transform)
        self.labels_ = self.predict(X)
        return self

    def _climbs(
        self, blocks: BlockSet, scan: Scan, transform: Transform, model: models.KMeans
    ) -> list[Climb]:
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        called = callable(self.init)
        k, given = self.n_clusters, not (called or isinstance(self.init, str))
        sample = blocks.map_reduce(seeding.DrawSample(SAMPLE_ROWS, scan.usable, seed))
        keys = {(k, restart): k for restart in range(1 if given else self._starts())}
        matrix = seeding.whitening(sample) if self.init_scale == "whiten" else None
        centres = {}
        if not given and self.init == "k-means||":
            centres = seeding.kmeans_parallel(blocks, keys, sample, seed, matrix)
        variance = float(model_variance(scan, transform)[~scan.constant].sum()) / scan.d
        stop = FirstOf((Settled(self.tol * variance), MaxPasses(self.max_iter)))
        climbs = []
        for key in keys:
            if given:
                start = transform.forward_means(self._checked_centres(self.init, scan.d))
            elif called:
                random = np.random.RandomState(generator(seed, "start", *key).integers(2**31))
                made = self.init(transform.backward_means(sample.values), k, random_state=random)
                start = transform.forward_means(self._checked_centres(made, scan.d))
            else:
                found = centres.get(key)
                if found is None:
                    rng = generator(seed, "start", *key)
                    scaled = seeding.in_units(sample, matrix)
                    found = seeding.centres_by_name(_INITS[self.init], k, scaled, rng)
                start = seeding.out_of_units(found, matrix)
            repair = Repair(sample.values, seed, 3 * k)
            climbs.append(Climb(str(key[1]), model, KMeansParams(start), stop, repair))
        return climbs

    def _starts(self) -> int:
        if self.n_init == "auto":
            return 10 if callable(self.init) or self.init == "random" else 1
        return int(self.n_init)

    def _checked_centres(self, given: Any, d: int) -> Float64:
        centres: Float64 = np.array(given, dtype=np.float64)
        wanted = (self.n_clusters, d)
        if centres.shape != wanted:
            raise FitError(f"The centres in init should have the shape {wanted}, but have {centres.shape}.")
        if not np.isfinite(centres).all():
            raise FitError("The centres in init hold NaN or infinity.")
        return centres

    def _keep(self, best: Fit, params: KMeansParams, likelihood: float, transform: Transform) -> None:
        unit = 1.0 if transform.scale is None else float(transform.scale[0]) ** 2
        self.cluster_centers_ = transform.backward_means(params.centres)
        self.converged_ = best.reason.converged
        total = float(best.stats.total)
        self.inertias_ = [-point.log_likelihood * total * unit for point in best.trace]
        self.inertia_ = -likelihood * unit
        self.n_iter_ = len(best.trace)
        if not self.converged_:
            warnings.warn(best.reason.sentence, ConvergenceWarning, stacklevel=3)

    # asking

    def _asked(self) -> tuple[Transform, Float64]:
        """Units without overflow, and the centres in them."""
        check_is_fitted(self, "cluster_centers_")
        centres = np.asarray(self.cluster_centers_, dtype=np.float64)
        size = float(np.abs(centres).max())
        transform = Transform.identity("keep")
        if not 1e-100 < size < 1e100 and size > 0.0:
            unit = np.ldexp(1.0, int(np.frexp(size)[1]) - 1)
            transform = Transform(missing="keep", scale=np.full(centres.shape[1], unit))
        return transform, transform.forward_means(centres)

    def predict(self, X: Any) -> Any:
        """Nearest centre of each row, shape (...,)."""
        transform, centres = self._asked()

        def answer(values: NDArray[Any], start: Sequence[int]) -> Ints:  # noqa: ARG001
            return compiled_centres.nearest(np.ascontiguousarray(transform.forward(values)), centres)[0]

        return self._map(X, answer, (), np.int64, centres.shape[1], "label")

    def transform(self, X: Any) -> Any:
        """Distance of each row from every centre, shape (..., k)."""
        transform, centres = self._asked()
        unit = 1.0 if transform.scale is None else float(transform.scale[0])

        def answer(values: NDArray[Any], start: Sequence[int]) -> Float64:  # noqa: ARG001
            rows = np.asarray(transform.forward(values), dtype=np.float64)
            return np.asarray(cdist(rows, centres)) * unit

        return self._map(X, answer, (("cluster", len(centres)),), np.float64, centres.shape[1], "distance")

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:  # noqa: ARG002 -- scikit-learn's
        """Minus the inertia of the rows."""
        least = self.transform(X).min(axis=-1) ** 2
        weights = 1.0 if sample_weight is None else sample_weight
        return -float(np.asarray((least * weights).sum()))

    @property
    def _n_features_out(self) -> int:
        return len(self.cluster_centers_)


def _one_scale(transform: Transform, d: int) -> Transform:
    """The transform with the same unit for all features: distances compare."""
    if transform.scale is None:
        return transform
    return replace(transform, scale=np.full(d, transform.scale.max()))
