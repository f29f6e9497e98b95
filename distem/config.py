"""A run's config: YAML read into frozen, typed objects.

Every key, its default and its meaning stand here once; `schema` shows them to editors.
Texts such as ``${env:NAME}`` stay unexpanded in these objects, so that whatever is printed,
hashed, pickled or written from them holds no secret; builders ask `Config.locate` or
`expand` for the value at the moment they use it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PrivateAttr,
    ValidationError,
    model_validator,
)

from distem._config_errors import Problem, config_error, explain
from distem._config_fields import (
    GIVEN,
    INIT_METHODS,
    NAMED,
    VARIABLES,
    Count,
    CountOrCounts,
    CovarianceOrList,
    CovarianceType,
    HostPort,
    InitName,
    JsonObject,
    Location,
    Matrix,
    Memory,
    Name,
    NamedOrGiven,
    Nested,
    PipelineName,
    SchedulerAddress,
    StorageOptions,
    Text,
    TextOrTexts,
    Texts,
    Variables,
    Vector,
    Version,
    has_password,
    memory_bytes,
    nesting,
    wrong,
)
from distem._env import ENV, URL, expand, expand_all, redact, texts, unset
from distem._yaml import MAX_BYTES, Document, read, write
from distem.errors import ConfigError

__all__ = [
    "AddressConfig",
    "AnyCluster",
    "AnyData",
    "AnyModel",
    "ClusterConfig",
    "Config",
    "CsvDataConfig",
    "DataConfig",
    "FitConfig",
    "GaussianMixtureConfig",
    "GivenParameters",
    "ImageDataConfig",
    "LocalConfig",
    "ModelConfig",
    "NetcdfDataConfig",
    "NpyDataConfig",
    "OutputConfig",
    "ParquetDataConfig",
    "SecurityConfig",
    "SerialConfig",
    "ThreadsConfig",
    "ZarrDataConfig",
    "expand",
    "expand_all",
    "load",
    "loads",
    "schema",
]

ENV_ALLOWED = (
    "data.path",
    "data.storage_options",
    "fit.init",
    "cluster.address",
    "cluster.security",
    "output.path",
)
"""Where ``${env:NAME}`` may stand: fields that hold a location or a secret."""


class Section(BaseModel):
    """What all parts of a config have in common: frozen, strict, without unknown keys."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True
    )


class DataConfig(Section):
    """Where the rows come from, whatever they are stored in."""

    kind: str = Field(description="What the data is stored in.")
    path: Location = Field(
        description="A local path, relative to the config's folder, or a URL; "
        "a pattern such as parts/*.csv for csv, parquet and image. May hold ${env:NAME}."
    )
    features: TextOrTexts | None = Field(
        default=None,
        description="The variables that are the features, or one variable that holds a feature dimension; "
        "null: all numeric variables, or the only one.",
    )
    sample_dims: Texts | None = Field(
        default=None,
        description="The dimensions whose every combination is a row; "
        "null: every dimension the features share, the feature dimension aside.",
    )
    feature_dim: Text | None = Field(
        default=None,
        description="The feature dimension, where `features` is one variable; null: its last dimension.",
    )
    scale: Literal["none", "standard", "whiten"] = Field(
        default="standard",
        description="standard: each feature to mean 0 and variance 1; whiten: decorrelate them as well. "
        "Results are in the data's own units all the same.",
    )
    missing: Literal["error", "drop"] = Field(
        default="error", description="What a row with a missing feature is: an error, or left out of the fit."
    )
    weights: Text | None = Field(default=None, description="The variable that holds a weight per row.")


class ZarrDataConfig(DataConfig):
    """A Zarr store."""

    kind: Literal["zarr"] = Field(description="A Zarr store.")
    group: Text | None = Field(default=None, description="The group within the store; null: its root.")
    storage_options: StorageOptions = Field(
        default_factory=dict,
        description="What the URL's filesystem (fsspec) is opened with. May hold ${env:NAME}.",
    )


class NetcdfDataConfig(DataConfig):
    """A netCDF-4 file."""

    kind: Literal["netcdf"] = Field(description="A netCDF-4 file.")
    group: Text | None = Field(default=None, description="The group within the file; null: its root.")


class _RowBlocks(DataConfig):
    """Storage whose chunks, if any, are not the blocks."""

    block_rows: Count | None = Field(
        default=None,
        description="Rows per block, where the storage has no chunks of its own; null: chosen for you.",
    )


class ParquetDataConfig(_RowBlocks):
    """Parquet files."""

    kind: Literal["parquet"] = Field(description="Parquet files.")
    storage_options: StorageOptions = Field(
        default_factory=dict,
        description="What the URL's filesystem (fsspec) is opened with. May hold ${env:NAME}.",
    )


class NpyDataConfig(_RowBlocks):
    """A NumPy .npy file."""

    kind: Literal["npy"] = Field(description="A NumPy .npy file.")


class CsvDataConfig(_RowBlocks):
    """CSV files."""

    kind: Literal["csv"] = Field(description="CSV files.")
    storage_options: StorageOptions = Field(
        default_factory=dict,
        description="What the URL's filesystem (fsspec) is opened with. May hold ${env:NAME}.",
    )


class ImageDataConfig(_RowBlocks):
    """Images; each pixel is a row."""

    kind: Literal["image"] = Field(description="Images; each pixel is a row.")


AnyData = Annotated[
    ZarrDataConfig | NetcdfDataConfig | ParquetDataConfig | NpyDataConfig | CsvDataConfig | ImageDataConfig,
    Discriminator("kind"),
]


class ModelConfig(Section):
    """What is fitted, whatever its family."""

    kind: str = Field(description="The family of models.")


class GaussianMixtureConfig(ModelConfig):
    """A mixture of Gaussians."""

    kind: Literal["gaussian_mixture"] = Field(description="A mixture of Gaussians.")
    components: CountOrCounts = Field(
        description="The number of components; a list makes candidates, all fitted in one read of the data."
    )
    covariance: CovarianceOrList = Field(
        default="full", description="The shape of the components' covariances; a list makes candidates too."
    )
    reg_covar: Annotated[float, Field(ge=0)] = Field(
        default=1e-6,
        description="Added to the diagonal of every covariance, in the scaled features' squared units.",
    )
    floor: Annotated[float, Field(gt=0)] = Field(
        default=1e-12, description="The smallest variance a component may have, relative to the data's own."
    )
    on_collapse: Literal["reseed", "drop"] = Field(
        default="reseed", description="What becomes of a component that has lost its rows."
    )

    @property
    def n_components(self) -> tuple[int, ...]:
        """The candidates' numbers of components, one or more."""
        return self.components if isinstance(self.components, tuple) else (self.components,)

    @property
    def covariance_types(self) -> tuple[CovarianceType, ...]:
        """The candidates' covariance types, one or more."""
        return self.covariance if isinstance(self.covariance, tuple) else (self.covariance,)


AnyModel = GaussianMixtureConfig
"""One of the families; a union discriminated by `kind` once there are more."""


class GivenParameters(Section):
    """Starting parameters written into the config, in the data's own units."""

    weights: Vector = Field(description="The components' weights; they sum to 1.")
    means: Matrix = Field(description="The components' means, one row a component.")
    covariances: Nested | None = Field(
        default=None,
        description="The covariances: [k][d][d] for full, [d][d] for tied, [k][d] for diag, [k] for "
        "spherical; null: the data's own.",
    )

    @model_validator(mode="after")
    def _shapes(self) -> GivenParameters:
        k = len(self.means)
        if len({len(row) for row in self.means}) > 1:
            raise wrong("needs rows of one length", "means")
        if len(self.weights) != k:
            raise wrong(f"needs one weight for each of the {k} means, got {len(self.weights)}", "weights")
        if min(self.weights) < 0 or not math.isclose(sum(self.weights), 1, abs_tol=1e-6):
            raise wrong(
                f"needs numbers of at least 0 that sum to 1, got a sum of {sum(self.weights):g}", "weights"
            )
        return self


class FitConfig(Section):
    """How the model is fitted."""

    init: Annotated[Annotated[InitName, NAMED] | Annotated[GivenParameters, GIVEN], NamedOrGiven] = Field(
        default="kmeans",
        description="Where the fit starts: kmeans, kmeans||, kmeans++, random, random_from_data, the path "
        "of a run folder (warm start; may hold ${env:NAME}), or the parameters themselves.",
    )
    restarts: Count = Field(default=1, description="Starts for each candidate; the best is kept.")
    tolerance: Annotated[float, Field(gt=0)] = Field(
        default=1e-6,
        description="Stop when the gain still expected, in log-likelihood per row, is below this.",
    )
    max_passes: Count = Field(default=500, description="The most passes over the data.")
    acceleration: Literal["none", "squarem", "anderson"] = Field(
        default="none", description="none is plain EM; the others take fewer passes to the same end."
    )
    precision: Literal["float64", "float32"] = Field(
        default="float64", description="Of the rows while they are worked on; sums are float64 in any case."
    )
    select: Literal["bic", "aic", "icl"] = Field(
        default="bic", description="Picks the best of several candidates."
    )
    kernels: Literal["compiled", "reference"] = Field(
        default="compiled", description="compiled is fast; reference is plain NumPy, to check against."
    )
    require_convergence: bool = Field(
        default=False, description="End with exit code 4 if the fit stops before it converged."
    )
    sample_rows: Count = Field(
        default=20_000, description="Rows drawn for seeding and for the report's pictures."
    )


class ClusterConfig(Section):
    """Where the passes run, whatever kind of cluster that is."""

    kind: str = Field(description="Where the passes run.")
    partitions: Count | None = Field(
        default=None,
        description="Tasks a pass is cut into; null: follows the cluster. Any number gives the same bits.",
    )
    resident: bool | None = Field(
        default=None,
        description="Keep the rows in memory between passes; null: if the plan says that they fit.",
    )


class SerialConfig(ClusterConfig):
    """One thread of this process."""

    kind: Literal["serial"] = Field(description="One thread of this process.")
    workers: Count | None = Field(default=None, description="Accepted, and ignored.")


class ThreadsConfig(ClusterConfig):
    """Threads of this process."""

    kind: Literal["threads"] = Field(description="Threads of this process.")
    workers: Count | None = Field(default=None, description="Threads; null: one for each core.")


class LocalConfig(ClusterConfig):
    """A Dask cluster of processes on this machine."""

    kind: Literal["local"] = Field(
        default="local", description="A Dask cluster of processes on this machine."
    )
    workers: Count | None = Field(default=None, description="Worker processes; null: one for each core.")
    threads: Count = Field(default=1, description="Threads per worker.")
    memory: Memory = Field(
        default="auto", description="Memory per worker, such as 4GiB; auto: an equal share of the machine's."
    )
    dashboard_address: HostPort | None = Field(
        default="127.0.0.1:0",
        description="Where Dask's dashboard listens; port 0: any free one; null: no dashboard.",
    )

    @property
    def memory_bytes(self) -> int | None:
        """Bytes per worker; None means a share of the machine's."""
        return None if self.memory == "auto" else memory_bytes(self.memory)


class SecurityConfig(Section):
    """TLS files that a cluster is reached with."""

    ca_file: Location = Field(description="The certificate authority's certificate. May hold ${env:NAME}.")
    cert: Location = Field(description="The client's certificate. May hold ${env:NAME}.")
    key: Location = Field(description="The client's key. May hold ${env:NAME}.")


class AddressConfig(ClusterConfig):
    """A Dask cluster that is already running."""

    kind: Literal["address"] = Field(description="A Dask cluster that is already running.")
    address: SchedulerAddress = Field(
        description="The scheduler's address, tcp://host:port or tls://host:port. May hold ${env:NAME}."
    )
    security: SecurityConfig | None = Field(
        default=None, description="TLS files; needed for tls:// addresses."
    )
    timeout: Annotated[float, Field(gt=0)] = Field(
        default=10.0, description="Seconds to wait for the scheduler to answer."
    )

    @model_validator(mode="after")
    def _tls_has_files(self) -> AddressConfig:
        if self.address.startswith("tls://") and self.security is None:
            raise wrong("is missing; a tls:// address needs ca_file, cert and key", "security")
        return self


def _default_kind(value: Any) -> Any:
    # `--set cluster.workers=4` alone should do
    return {"kind": "local", **value} if isinstance(value, dict) else value


AnyCluster = Annotated[
    Annotated[SerialConfig | ThreadsConfig | LocalConfig | AddressConfig, Discriminator("kind")],
    BeforeValidator(_default_kind),
]


class OutputConfig(Section):
    """What is written, and where."""

    path: Location | None = Field(
        default=None,
        description="The run folder: a local path, relative to the config's folder, or a URL; "
        "null: runs/ and the config's name. May hold ${env:NAME}.",
    )
    variables: Variables = Field(
        default=VARIABLES,
        description="What is written for each row; an empty list fits the model and no more.",
    )
    report: bool = Field(default=True, description="Draw the HTML report when the run is complete.")


class Config(Section):
    """A run's config, with every default filled in.

    `load` makes one from a file. Paths are as written: `locate` says where they lie.
    """

    version: Version = Field(description="The version of this format.")
    name: Name = Field(description="The run's name; letters, digits, '.', '_' and '-'.")
    pipeline: PipelineName = Field(
        default="cluster", description="A pipeline's name, or the path of a .py file that holds one."
    )
    seed: Annotated[int, Field(ge=0)] = Field(default=0, description="All that is random follows from it.")
    data: AnyData = Field(description="Where the rows come from.")
    model: AnyModel = Field(description="What is fitted.")
    fit: FitConfig = Field(default_factory=FitConfig, description="How it is fitted.")
    cluster: AnyCluster = Field(
        default_factory=LocalConfig, description="Where the work is done; the result does not depend on it."
    )
    output: OutputConfig = Field(
        default_factory=OutputConfig, description="Which results are written, and where."
    )
    options: JsonObject = Field(
        default_factory=dict, description="A pipeline's own settings; the built-in pipelines have none."
    )

    _folder: Path = PrivateAttr(default_factory=lambda: Path(os.path.realpath(".")))

    def model_post_init(self, context: Any) -> None:
        """Remember the folder that relative paths start from."""
        if context and "folder" in context:
            self._folder = Path(os.path.realpath(context["folder"]))

    @model_validator(mode="after")
    def _start_fits_model(self) -> Config:
        init, where = self.fit.init, ("fit", "init")
        if isinstance(init, GivenParameters):
            k = len(init.means)
            if self.model.n_components != (k,):
                wanted = ", ".join(str(n) for n in self.model.n_components)
                raise wrong(f"has {k} means; model.components is {wanted}, and must be their number", *where)
            types = self.model.covariance_types
            depth = {"full": 3, "tied": 2, "diag": 2, "spherical": 1}[types[0]]
            if init.covariances is not None and (len(types) > 1 or nesting(init.covariances) != depth):
                raise wrong(
                    f"does not have the shape that model.covariance says ({', '.join(types)})",
                    *where,
                    "covariances",
                )
        return self

    # where things lie

    @property
    def folder(self) -> Path:
        """The folder that relative paths start from: the config file's own."""
        return self._folder

    @property
    def run_folder(self) -> str:
        """The run folder's path or URL, ready to use: `output.path` expanded and located."""
        return self.locate(self._output_path)

    @property
    def _output_path(self) -> str:
        return self.output.path or f"runs/{self.name}"

    def locate(self, path: str) -> str:
        """Return a path of this config, ready to use.

        ``${env:NAME}`` and a leading ``~`` are filled in, relative paths start from the config's
        folder; URLs and absolute paths stay as they are. The result may be a secret.
        """
        path = expand(path)
        if URL.match(path):
            return path
        parts = os.path.expanduser(path).split("/")
        named = next((i for i, part in enumerate(parts) if part not in ("", ".", "..")), len(parts))
        whole = os.path.join(self._folder, "/".join(parts))
        # behind a name, `..` may lead elsewhere than the text says: the name may be a link
        return whole if ".." in parts[named:] else os.path.normpath(whole)

    def _anchor(self, path: str) -> tuple[str, str] | None:
        """Split a relative path into an absolute folder and a rest that is left unexpanded.

        None means that the path does not depend on the config's folder.
        """
        match = ENV.search(path)
        if _is_fixed(path):
            return None
        if match is None:
            return os.path.realpath(os.path.join(self._folder, path)), ""
        if match.start() == 0:
            try:
                start = expand(path)
            except ConfigError:
                return None
            if _is_fixed(start):
                return None
        head, _, tail = path[: match.start()].rpartition("/")
        return os.path.realpath(os.path.join(self._folder, head)), tail + path[match.start() :]

    def _absolute(self, path: str) -> str:
        anchor = self._anchor(path)
        if anchor is None:
            local = not URL.match(path) and not ENV.search(path)
            return os.path.realpath(os.path.expanduser(path)) if local else path
        return os.path.join(*anchor) if anchor[1] else anchor[0]

    def _relative(self, path: str, folder: str) -> str:
        anchor = self._anchor(path)
        if anchor is None:
            return path
        if URL.match(folder):
            return self._absolute(path)
        start = os.path.relpath(anchor[0], os.path.realpath(folder))
        path = os.path.normpath(start) if not anchor[1] else os.path.join(start, anchor[1])
        # a bare name could be read as a method of fit.init, a URL or a home
        return path if path.startswith(".") else f"./{path}"

    def _with_paths(self, change: Callable[[str], str]) -> dict[str, Any]:
        tree = self.resolved()
        if tree["pipeline"].endswith(".py"):
            tree["pipeline"] = change(tree["pipeline"])
        for section, key in (("data", "path"), ("output", "path")):
            tree[section][key] = change(tree[section][key])
        init = tree["fit"]["init"]
        if isinstance(init, str) and init not in INIT_METHODS:
            tree["fit"]["init"] = change(init)
        for key, value in (tree["cluster"].get("security") or {}).items():
            tree["cluster"]["security"][key] = change(value)
        return tree

    # what is written

    def resolved(self) -> dict[str, Any]:
        """Return the config as plain JSON values: defaults explicit, ``${env:NAME}`` unexpanded."""
        tree = self.model_dump(mode="json")
        tree["output"]["path"] = self._output_path
        return tree

    def to_yaml(self, folder: str | Path) -> str:
        """Return the config as YAML that means the same when it lies in another folder.

        Parameters
        ----------
        folder : str or Path
            Where it will lie, usually the run folder; relative paths are rewritten for it.
        """
        return write(self._with_paths(lambda path: self._relative(path, str(folder))))

    def hash(self) -> str:
        """Return the SHA-256, in hexadecimal, of everything in the config that decides the result.

        The name, the cluster, the output's place and the report are not part of it. Paths are
        absolute in it, ``${env:NAME}`` unexpanded.
        """
        tree = self._with_paths(self._absolute)
        decides = {
            key: tree[key] for key in ("version", "pipeline", "seed", "data", "model", "fit", "options")
        }
        decides["output"] = {"variables": tree["output"]["variables"]}
        text = json.dumps(decides, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def redact(self, text: str) -> str:
        """Put ``${env:NAME}`` back wherever its value, or a part of it that tells, stands in a text.

        For messages of other libraries, which do not know what is secret. Redact texts before
        they are encoded as JSON.
        """
        return redact(text, texts(self.resolved()), str(self._folder))


def _is_fixed(path: str) -> bool:
    # a leading ~ may also begin a file's name: only a home that exists is one
    return URL.match(path) is not None or os.path.isabs(os.path.expanduser(path))


# from a file to a config


def load(path: str | Path, overrides: Sequence[str] = (), *, require_env: bool = True) -> Config:
    """Read a config file.

    Parameters
    ----------
    path : str or Path
        The YAML file.
    overrides : sequence of str, optional
        Assignments such as ``model.components=3``, applied in order.
    require_env : bool, optional
        Whether every ``${env:NAME}`` must be set now; False is for reading a finished run's config.

    Raises
    ------
    ConfigError
        With a line for each problem: file:line:column, the key, the fact, what is allowed.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
        # a text cut short here is refused for its size by `read`; it may end within a character
        text = data.decode(errors="replace" if len(data) > MAX_BYTES else "strict")
    except FileNotFoundError:
        raise ConfigError(
            f"The config {path} does not exist.",
            "Give the path of a YAML file; `distem schema` says what it may hold.",
        ) from None
    except IsADirectoryError:
        raise ConfigError(f"The config {path} is a folder.", "Give the path of a YAML file in it.") from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"The config {path} cannot be read: {why}.", "Is it the right file?") from None
    # the file itself may be a link, as mounted ones are: the folder is where the user sees it
    return loads(text, str(path), Path(path).parent, overrides, require_env=require_env)


def loads(
    text: str,
    name: str = "config",
    folder: str | Path = ".",
    overrides: Sequence[str] = (),
    *,
    require_env: bool = True,
) -> Config:
    """Read a config from text; `name` begins the positions in messages. See `load`."""
    document = read(text, name)
    for assignment in overrides:
        document = document.override(assignment, _label(assignment))
    problems = _env_problems(document, require_env)
    try:
        config = Config.model_validate(document.tree, context={"folder": folder})
    except ValidationError as error:
        known = {problem.path for problem in problems}
        found = explain(error.errors(include_url=False), document, _keys(document.tree), _homes())
        problems += [problem for problem in found if problem.path not in known]
    else:
        if not problems:
            return config
    raise config_error(problems, document) from None


def _label(assignment: str) -> str | None:
    # these values may be secrets, and labels stand in messages
    secret = any(word in assignment for word in ("storage_options", "security")) or has_password(assignment)
    return f"--set {assignment.partition('=')[0].strip()}=…" if secret else None


def _env_problems(document: Document, require: bool) -> list[Problem]:
    """Return what is wrong with the ``${env:NAME}`` of a config: where they stand, what is not set."""
    problems: list[Problem] = []
    allowed = f"it may stand in {', '.join(ENV_ALLOWED)}"

    def walk(tree: Any, path: tuple[str | int, ...]) -> None:
        if isinstance(tree, dict):
            for key, value in tree.items():
                if "${env:" in key:
                    problems.append(Problem((*path, key), f"${{env:…}} cannot be a key; {allowed}"))
                walk(value, (*path, key))
        elif isinstance(tree, list):
            for index, value in enumerate(tree):
                walk(value, (*path, index))
        elif isinstance(tree, str) and "${env:" in tree:
            place = ".".join(str(part) for part in path)
            if not any(f"{place}.".startswith(f"{field}.") for field in ENV_ALLOWED):
                problems.append(Problem(path, f"${{env:…}} cannot stand here; {allowed}"))
            elif require:
                problems.extend(
                    Problem(path, f"the environment variable {name} {why}; export {name}=…")
                    for name in ENV.findall(tree)
                    if (why := unset(name))
                )

    walk(document.tree, ())
    return problems


_KINDS: dict[str, dict[str, type[Section]]] = {
    section: {get_args(cls.model_fields["kind"].annotation)[0]: cls for cls in classes}
    for section, classes in {
        "data": get_args(get_args(AnyData)[0]),
        "model": (AnyModel,),
        "cluster": (SerialConfig, ThreadsConfig, LocalConfig, AddressConfig),
    }.items()
}
_SECTIONS: dict[tuple[str, ...], type[Section]] = {
    (): Config,
    ("fit",): FitConfig,
    ("fit", "init"): GivenParameters,
    ("cluster", "security"): SecurityConfig,
    ("output",): OutputConfig,
}


def _keys(tree: Any) -> Mapping[tuple[str | int, ...], Sequence[str]]:
    """Return each section's keys, those of data, model and cluster for the kind this config has."""
    keys: dict[tuple[str | int, ...], Sequence[str]] = {
        path: list(cls.model_fields) for path, cls in _SECTIONS.items()
    }
    for section, kinds in _KINDS.items():
        written = tree.get(section) if isinstance(tree, dict) else None
        kind = written.get("kind", "local") if isinstance(written, dict) else None
        if isinstance(kind, str) and kind in kinds:
            keys[(section,)] = list(kinds[kind].model_fields)
        keys[(section, "kind")] = list(kinds)
    return keys


def _homes() -> Mapping[str, Sequence[str]]:
    """Return where each key belongs: "group" to "data (zarr, netcdf)"."""
    homes: dict[str, list[str]] = {}
    for path, cls in _SECTIONS.items():
        for key in cls.model_fields:
            homes.setdefault(key, []).append(".".join(path) or "the top level")
    for section, kinds in _KINDS.items():
        for key in dict.fromkeys(key for cls in kinds.values() for key in cls.model_fields):
            having = [kind for kind, cls in kinds.items() if key in cls.model_fields]
            some = f" ({', '.join(having)})" if len(having) < len(kinds) else ""
            homes.setdefault(key, []).append(f"{section}{some}")
    return homes


def schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a config."""
    body = Config.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **body,
        "title": "distem config",
        "description": "What distem run is given.",
    }
