"""What a run folder says of its run: the manifest, from the first line to the last, and its summary."""

from __future__ import annotations

import platform
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

from distem._version import __version__
from distem.config import Config
from distem.data.folder import RunFolder
from distem.data.results import writing
from distem.errors import DistemError, Interrupted
from distem.events import Planned
from distem.families.base import family
from distem.stages import Fitted, Session, dropping

PACKAGES = ("numpy", "numba", "dask", "distributed", "xarray", "zarr", "scikit-learn", "scipy", "pandas")


@dataclass(frozen=True, slots=True)
class Summary:
    """How a run ended.

    Attributes
    ----------
    run : str
        The run folder.
    status : str
        complete, or what the manifest says.
    components : int
        Of the chosen mixture.
    log_likelihood : float
        Mean per row, in the data's own units.
    bic : float
        Of the chosen mixture.
    passes : int
        Of the chosen fit.
    converged : bool
    reason : str
        Why the fit stopped.
    seconds : float
        Of the whole run, all attempts together.
    """

    run: str
    status: str
    components: int
    log_likelihood: float
    bic: float
    passes: int
    converged: bool
    reason: str
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """The summary as plain values."""
        return asdict(self)


def last_words(folder: RunFolder, manifest: dict[str, Any]) -> None:
    """Write how it ended; on a full disk an unfinished result makes room, which is begun anew in any case."""
    with suppress(Interrupted), writing(folder.where):
        try:
            folder.write_manifest(manifest)
        except OSError:
            if manifest.get("status") == "complete":
                raise
            folder.remove_result()
            folder.write_manifest(manifest)


def begun(session: Session) -> dict[str, Any]:
    """What is known of a run before its first pass."""
    config = session.config
    return {
        "name": config.name,
        "config": config.resolved(),
        "config_hash": config.hash(),
        "seed": config.seed,
        "versions": {
            "distem": __version__,
            "python": platform.python_version(),
            **{p: version(p) for p in PACKAGES},
        },
        "kernels": config.fit.kernels,
        "plan": session.plan.as_dict(),
        "partitions": session.plan.partitions,
        "data": session.source.describe(),
    }


def planned(session: Session) -> Planned:
    """The plan, for those who watch."""
    plan, config, its = session.plan, session.config, family(session.config.model.kind)
    return Planned(
        model=config.model.kind,
        rows=plan.rows,
        features=plan.features,
        blocks=plan.blocks,
        partitions=plan.partitions,
        candidates=plan.candidates if its.step == "pass" else 1,  # starts are of the first pair alone
        workers=plan.workers,
        threads=plan.threads,
        resident=plan.resident,
        bytes_read_per_pass=plan.bytes_read_per_pass,
        tolerance=config.fit.tolerance,
        max_passes=_pairs(session) if its.step == "pair" else config.fit.max_passes,
        title=its.title,
        part=its.part,
        objective=its.objective,
        step=its.step,
    )


def _pairs(session: Session) -> int:
    """Pairs of frames that a run goes through: one fewer than frames, and as many as flow fields."""
    of_flow = getattr(session.config.model, "input", None) == "flow"
    return max(1, session.source.shape[0] - (not of_flow))


def outcome(session: Session, fitted: Fitted) -> dict[str, Any]:
    """What a complete run says of its fit and data."""
    rule = dropping(session.config)
    fit, score, config = fitted.fit, fitted.scores[fitted.chosen], session.config
    return {
        "fit": {
            "chosen": fitted.chosen,
            "components": fitted.model.k,
            "log_likelihood": score.log_likelihood / score.mass,
            "bic": score.bic,
            **({"cv": score.cv, "cv_se": score.cv_se} if config.fit.select == "cv" else {}),
            "passes": len(fit.trace),
            "converged": fit.reason.converged,
            "reason": fit.reason.sentence,
        }
        | ({"sample_first": session.sampled} if session.sampled else {})
        | ({} if rule is None else {"drop": {"rule": rule.rule, "dropped": fitted.dropped}}),
        "data": session.source.describe() | session.facts,
        "files": None if session.unchanged is None else session.unchanged.stamp,
        "identity": session.identity,
    }


def failure(status: str, error: BaseException, config: Config) -> dict[str, Any]:
    """How a run ended that did not complete."""
    code = error.exit_code if isinstance(error, DistemError) else 1
    return {"status": status, "exit": code, "error": config.redact(f"{type(error).__name__}: {error}")}


def summary_of(manifest: dict[str, Any], folder: RunFolder) -> Summary:
    """The summary of a complete run, from its manifest."""
    fit = manifest["fit"]
    return Summary(
        run=folder.where,
        status=manifest["status"],
        components=fit["components"],
        log_likelihood=fit["log_likelihood"],
        bic=fit["bic"],
        passes=fit["passes"],
        converged=fit["converged"],
        reason=fit["reason"],
        seconds=manifest["seconds"],
    )
