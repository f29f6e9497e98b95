"""The command line. Imports are late: help and mistakes should answer at once."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from distem._text import printable
from distem._version import __version__
from distem.errors import ConfigError, DistemError

if TYPE_CHECKING:
    from distem.config import Config

UNEXPECTED = 1


@contextmanager
def _errors_in_a_paragraph(debug: bool, redact: Callable[[], Callable[[str], str]]) -> Iterator[None]:
    """Turn errors into one paragraph on stderr and the exit code of their kind."""
    if debug:  # the logs of Dask's threads are shown too
        import logging

        logging.getLogger("distem").setLevel(logging.DEBUG)
    try:
        yield
    except DistemError as error:
        if debug:
            _traceback(redact())
        click.echo(printable(redact()(f"error: {error}")), err=True)
        sys.exit(error.exit_code)
    except Exception as error:  # noqa: BLE001 -- the last line of defence: whatever happens is ours to report
        if debug:
            _traceback(redact())
        text = (
            f"error: an unexpected {type(error).__name__}: {error}. Run with --debug for where it happened."
        )
        click.echo(printable(redact()(text)), err=True)
        sys.exit(UNEXPECTED)


def _traceback(redact: Callable[[str], str]) -> None:
    import traceback

    click.echo(printable(redact(traceback.format_exc())), err=True)


def _unchanged(text: str) -> str:
    return text


class _Loading:
    """A config being loaded, whose secrets are to be kept out of what is shown."""

    config: Config | None = None

    def redact(self) -> Callable[[str], str]:
        return self.config.redact if self.config is not None else _unchanged

    def load(self, path: str, overrides: tuple[str, ...]) -> Config:
        from distem.config import load

        self.config = load(path, overrides)
        return self.config


def _shared(command: Callable[..., Any]) -> Callable[..., Any]:
    command = click.option("--debug", is_flag=True, help="Show where an error happened.")(command)
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")(command)


_overrides = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a key, e.g. --set model.components=[3,4].",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="distem")
def main() -> None:
    """Fit mixtures and other EM models to more data than fits in memory."""


@main.command()
@click.argument("config", type=click.Path())
@_overrides
@click.option("--fresh", is_flag=True, help="Begin again: remove what an earlier run left in the folder.")
@click.option("--insecure", is_flag=True, help="Let a cluster of its own listen beyond this machine.")
@click.option("--quiet", is_flag=True, help="Show warnings only.")
@_shared
def run(
    config: str,
    overrides: tuple[str, ...],
    fresh: bool,
    insecure: bool,
    quiet: bool,
    as_json: bool,
    debug: bool,
) -> None:
    """Do the whole job; run again, it continues an unfinished run."""
    loading = _Loading()
    with _errors_in_a_paragraph(debug, loading.redact):
        loaded = loading.load(config, (*overrides, *(["cluster.insecure=true"] if insecure else [])))
        from distem.data.results import holds
        from distem.monitor.progress import Progress
        from distem.run import run as do

        with Progress(
            quiet=quiet or as_json, tolerance=loaded.fit.tolerance, max_passes=loaded.fit.max_passes
        ) as progress:
            summary = do(loaded, fresh=fresh, observers=(progress,))
        if as_json:
            click.echo(json.dumps(summary.as_dict()))
            return
        click.echo(
            f"{summary.components} components, log-likelihood {summary.log_likelihood:.9g} per row, "
            f"BIC {summary.bic:.9g}, {summary.passes} passes, {summary.seconds:.1f} s. {summary.reason}"
        )
        if holds(summary.run, "report.html"):
            click.echo(f"report: {summary.run}/report.html")
        click.echo(summary.run)


@main.command()
@click.argument("config", type=click.Path())
@_overrides
@_shared
def plan(config: str, overrides: tuple[str, ...], as_json: bool, debug: bool) -> None:
    """Say what a run would do, and refuse what cannot fit; starts nothing."""
    loading = _Loading()
    with _errors_in_a_paragraph(debug, loading.redact):
        loaded = loading.load(config, overrides)
        from distem.run import plan as make

        made = make(loaded, say=lambda message: click.echo(message, err=True))
        click.echo(json.dumps(made.as_dict()) if as_json else "\n".join(made.lines()))


@main.command()
@click.argument("model", type=click.Path())
@click.argument("data")
@click.option("-o", "--output", required=True, type=click.Path(), help="The Zarr store to write.")
@click.option("--kind", help="What DATA is stored in; default: by its ending.")
@click.option("--workers", type=click.IntRange(min=1), help="Threads; default: one a core.")
@click.option(
    "--probability",
    type=click.Choice(["float64", "float32", "float16", "uint8"]),
    default="float64",
    help="Type of the probabilities written, as output.encoding has it.",
)
@click.option(
    "--compressor",
    type=click.Choice(["zstd", "blosc", "gzip", "none"]),
    default="zstd",
    help="Of the output.",
)
@click.option("--level", type=click.IntRange(1, 22), default=1, help="The compressor's.")
@_shared
def predict(
    model: str,
    data: str,
    output: str,
    kind: str | None,
    workers: int | None,
    probability: str,
    compressor: str,
    level: int,
    as_json: bool,
    debug: bool,
) -> None:
    """Assign new DATA with a fitted MODEL: a run folder, or a model in one."""
    with _errors_in_a_paragraph(debug, lambda: _unchanged):
        if "://" in output:
            raise ConfigError("The assignment of new data is written to local paths.", "Give one with -o.")
        from distem.data.encoding import Encoding
        from distem.execution.threads import ThreadsExecutor
        from distem.fitted import FittedModel
        from distem.predict import open_for
        from distem.predict import predict as do

        fitted = FittedModel.load(model)
        encoding = Encoding(probability, compressor, level)
        source = open_for(fitted, data, kind)
        with ThreadsExecutor(workers) as executor:
            do(fitted, source, Path(output), executor, encoding)
        click.echo(json.dumps({"output": output, "rows": source.n}) if as_json else output)


@main.command()
@click.argument("run_folder", metavar="RUN", type=click.Path())
@click.option("--debug", is_flag=True, help="Show where an error happened.")
def report(run_folder: str, debug: bool) -> None:
    """Draw the HTML report of a RUN again, from its folder alone."""
    with _errors_in_a_paragraph(debug, lambda: _unchanged):
        from distem.data.remote_folder import run_folder as at
        from distem.report.draw import draw_in

        with at(run_folder) as folder:
            click.echo(draw_in(folder))


@main.command()
@click.argument("run_a", type=click.Path())
@click.argument("run_b", type=click.Path())
@click.option(
    "--threshold",
    type=click.FloatRange(min=0),
    help="A component that moved further has moved; default: 0.1.",
)
@click.option(
    "--fail-over",
    type=click.FloatRange(min=0),
    metavar="X",
    help="End with exit code 4 if one moved further than X, appeared or vanished, or the shares moved.",
)
@click.option(
    "--shares",
    type=click.FloatRange(min=0, max=1),
    metavar="SHARE",
    help="The shares have moved if they differ by more of the rows; default: 0.1.",
)
@click.option(
    "--html", type=click.Path(path_type=Path, dir_okay=False), help="Write the comparison to this file too."
)
@_shared
def compare(
    run_a: str,
    run_b: str,
    threshold: float | None,
    fail_over: float | None,
    shares: float | None,
    html: Path | None,
    as_json: bool,
    debug: bool,
) -> None:
    """Match the components of two runs: what moved, appeared and vanished from RUN_A to RUN_B.

    Distances are in standard deviations of the data; those of states that say symbols are Hellinger's, from
    0 to 1.
    """
    with _errors_in_a_paragraph(debug, lambda: _unchanged):
        from distem.errors import FitError
        from distem.report.compare import SHARES, THRESHOLD
        from distem.report.compare import compare as do

        limit = next(value for value in (threshold, fail_over, THRESHOLD) if value is not None)
        held = SHARES if shares is None else shares
        found = do(run_a, run_b, limit, shares_threshold=held, fail_over=fail_over or 0.0)
        if html is not None:
            from distem.report.compare_page import write

            write(found, html)
        click.echo(json.dumps(found.as_dict()) if as_json else "\n".join(found.lines()))
        if fail_over is not None and found.beyond(fail_over):
            sys.exit(FitError.exit_code)


@main.command()
@click.argument("config", type=click.Path())
@_overrides
@click.option("--debug", is_flag=True, help="Show where an error happened.")
def manifests(config: str, overrides: tuple[str, ...], debug: bool) -> None:
    """Print what Kubernetes needs to run the job, for kubectl apply -f -."""
    loading = _Loading()
    with _errors_in_a_paragraph(debug, loading.redact):
        from distem.config import load
        from distem.manifests import to_yaml

        # secrets are in the cluster, not here
        loading.config = load(config, overrides, require_env=False)
        click.echo(to_yaml(loading.config), nl=False)


@main.command()
@click.option("--log", is_flag=True, help="Of a line of log.jsonl instead.")
def schema(log: bool) -> None:
    """Print the JSON Schema of a config, for editors."""
    if log:
        from distem.monitor.schema import log_schema

        click.echo(json.dumps(log_schema(), indent=2))
        return
    from distem.config import schema as make

    click.echo(json.dumps(make(), indent=2))
