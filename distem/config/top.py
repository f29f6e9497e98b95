"""The whole config: sections, paths, and what is written of it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, PrivateAttr, model_validator

from distem.config.cluster import AnyCluster, LocalConfig
from distem.config.data import AnyData
from distem.config.env import ENV, URL, expand, redact, texts
from distem.config.fields import (
    INIT_METHODS,
    VARIABLES,
    Images,
    JsonObject,
    Location,
    Name,
    PipelineName,
    Variables,
    Version,
    wrong,
)
from distem.config.fit import FitConfig
from distem.config.kinds import AnyModel
from distem.config.section import Section
from distem.config.yaml import write
from distem.errors import ConfigError

if TYPE_CHECKING:
    from distem.data.encoding import Encoding
    from distem.smoothing import Smoothing


class EncodingConfig(Section):
    """How the answers for rows are stored."""

    probability: Literal["float64", "float32", "float16", "uint8"] = Field(
        default="float64",
        description="The probabilities' type. uint8 comes with scale_factor and add_offset, which xarray "
        "decodes by itself, and is at most 1/508 off; float16 at most 2^-12. Labels stay the same.",
    )
    compressor: Literal["zstd", "blosc", "gzip", "none"] = Field(
        default="zstd", description="Of what is written for each row; blosc is Zstd behind a byte shuffle."
    )
    level: Annotated[int, Field(ge=1, le=22)] = Field(
        default=1, description="The compressor's level: 1 is the quickest; zstd has 22, the others 9."
    )

    @model_validator(mode="after")
    def _level_exists(self) -> EncodingConfig:
        if self.level > 9 and self.compressor in ("blosc", "gzip"):
            raise wrong(f"is {self.level}; {self.compressor} has levels 1 to 9", "level")
        return self

    def build(self) -> Encoding:
        """Return the encoding as the writer takes it."""
        from distem.data.encoding import Encoding

        return Encoding(self.probability, self.compressor, self.level)


class SmoothingConfig(Section):
    """Spatial smoothing of the probabilities: a mean-field Potts model over each pixel's four neighbours."""

    beta: Annotated[float, Field(gt=0, le=100)] = Field(
        default=1.0, description="How much a neighbour's label weighs, in log-odds."
    )
    iterations: Annotated[int, Field(ge=1, le=50)] = Field(
        default=5, description="How often neighbours are asked; also how many pixels away a pixel looks."
    )

    def build(self) -> Smoothing:
        """Return the smoothing as the assignment takes it."""
        from distem.smoothing import Smoothing

        return Smoothing(self.beta, self.iterations)


class OutputConfig(Section):
    """What is written, and where."""

    path: Location | None = Field(
        default=None,
        description="The run folder: a local path, relative to the config's folder, or s3://bucket/name; "
        "null: runs/ and the config's name. May hold ${env:NAME}.",
    )
    variables: Variables = Field(
        default=VARIABLES,
        description="What is written for each row; an empty list fits the model and no more. Unless it is "
        "written, a kind of model may have its own: kmeans label and distance.",
    )
    encoding: EncodingConfig = Field(
        default_factory=EncodingConfig, description="How what is written for each row is stored."
    )
    images: Images = Field(
        default=(),
        description="Write the labels of a raster as images too, in each component's mean colour: png, which "
        "is made in memory and shows every few pixels of a large one; geotiff with the raster's place.",
    )
    smoothing: SmoothingConfig | None = Field(
        default=None,
        description="Let the labels and probabilities of a picture lean towards those of the neighbours; "
        "log_density stays that of the model.",
    )
    match: Location | None = Field(
        default=None,
        description="The folder of an earlier run: components are numbered as the nearest there are, so "
        "that component 3 of tonight is component 3 of last night.",
    )
    report: bool = Field(default=True, description="Draw the HTML report when the run is complete.")

    @model_validator(mode="after")
    def _images_have_labels(self) -> OutputConfig:
        if self.images and "label" not in self.variables:
            raise wrong("shows labels, and output.variables has none; add label", "images")
        return self


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
    def _kinds_own(self) -> Config:
        """Fill in what this kind of model means by keys that were not written, and ask it about the rest."""
        for name, values in self.model.defaults.items():
            section = getattr(self, name)
            unsaid = {key: value for key, value in values.items() if key not in section.model_fields_set}
            # the config is frozen, but not before it is whole
            self.__dict__[name] = section.model_copy(update=unsaid)
        self.model.check(self)
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
        if tree["output"]["match"] is not None:
            tree["output"]["match"] = change(tree["output"]["match"])
        for key, value in (tree["cluster"].get("security") or {}).items():
            tree["cluster"]["security"][key] = change(value)
        for key in ("shared_folder", "log_folder", "local_folder"):
            if tree["cluster"].get(key) is not None:
                tree["cluster"][key] = change(tree["cluster"][key])
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

        The name, the cluster, the output's place, the report and how long is waited are not part of
        it. Paths are absolute in it, ``${env:NAME}`` unexpanded.
        """
        tree = self._with_paths(self._absolute)
        decides = {
            key: tree[key] for key in ("version", "pipeline", "seed", "data", "model", "fit", "options")
        }
        decides["fit"].pop("stall_timeout")
        written = ("variables", "encoding", "smoothing", "images")
        decides["output"] = {name: tree["output"][name] for name in written}
        if tree["output"]["match"] is not None:  # hashes of before it was there stay
            decides["output"]["match"] = tree["output"]["match"]
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
