"""What a run would do: the data opened, the plan made, and refused where it cannot be kept."""

from __future__ import annotations

from collections.abc import Callable

import psutil

from distem.config import Config
from distem.data.label_images import require
from distem.data.neighbours import spatial_axes
from distem.data.source import Source
from distem.data.transform import Transform
from distem.execution.base import Executor
from distem.jobs import prepare
from distem.plan import Plan, Work, make_plan
from distem.starting import samples_first


def silent_note(_: str) -> None:
    """Say nothing."""


def plan(config: Config, say: Callable[[str], None] = silent_note) -> Plan:
    """What a run would do; starts nothing but, for a running cluster, a look at it.

    Parameters
    ----------
    config : Config
        What would be done.
    say : callable
        Is told what the pipeline does to make its data, where there is none yet.

    Raises
    ------
    ConfigError
        It cannot fit, with the numbers.
    DataError
        The data cannot be opened as the config says.
    """
    prepare(config, say)
    return make(config, open_data(config), None)


def open_data(config: Config) -> Source:
    """The data, as the kind of model takes it."""

    def again(column: str) -> Source:
        own = config.data.model_copy(update={"features": (column,), "feature_dim": None, "weights": None})
        return own.build(config.locate)

    return config.model.arrange(config.data.build(config.locate), again)


def make(config: Config, source: Source, executor: Executor | None) -> Plan:
    """The plan for opened data, on a cluster that runs or on what the config says it will have."""
    _check_picture(config, source)
    components = [
        k
        for _ in config.model.variants
        for k in config.model.n_components
        for _ in range(config.fit.restarts)
    ]
    return make_plan(
        source,
        source.blocks(Transform(dtype=config.fit.precision)),
        executor.capacity if executor else config.cluster.capacity(config.locate),
        Work(
            components=components,
            sums=[config.model.sums(k, source.d) for k in components],
            variables=config.output.variables,
            sample_rows=config.fit.sample_rows,
            drops=config.data.missing == "drop",
            working_bytes=config.model.working_bytes,
            working_row_bytes=config.model.working_row_bytes,
            weighted=config.data.weights is not None,
            probability_bytes=config.output.encoding.build().itemsize,
            folds=config.fit.folds if config.fit.select == "cv" else 0,
            beside_row=config.model.beside_row * len(components),
            sample_first=samples_first(config, source.n, source.d),
            halo_rows=_halo_rows(config, source),
        ),
        # one thread reads one block after the other, whatever is asked for
        partitions=1 if config.cluster.kind == "serial" else config.cluster.partitions,
        resident=config.cluster.resident,
        machine_bytes=psutil.virtual_memory().total,
    )


def _check_picture(config: Config, source: Source) -> None:
    """Refuse, before any work, what needs neighbours or a package that is not there.

    Raises
    ------
    ConfigError
        The rows are no picture, or a kind of image cannot be written.
    """
    if config.output.smoothing is not None or config.output.images:
        spatial_axes(source.dims)
    for kind in config.output.images:
        require(kind)


def _halo_rows(config: Config, source: Source) -> int:
    """Rows of the largest block with the halo that smoothing needs; 0 where nothing is smoothed."""
    if config.output.smoothing is None or not config.output.variables:
        return 0
    return max(block.n for block in source.blocks(halo=config.output.smoothing.build().halo))
