"""What a config may say, what is refused and in which words, and that it holds no secret."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from distem.config import (
    AddressConfig,
    Config,
    GaussianMixtureConfig,
    GivenParameters,
    LocalConfig,
    ThreadsConfig,
    ZarrDataConfig,
    expand,
    expand_all,
    load,
    loads,
    schema,
)
from distem.config.yaml import write
from distem.data.derive import Derive, Texture
from distem.errors import ConfigError

CANARY = "canary-7f3a"

QUICKSTART = """\
version: 1
name: nyc-flights
data:
  kind: zarr
  path: data/flights.zarr
  features: [dep_delay, arr_delay, air_time, distance]
  sample_dims: [flight]
  scale: standard
  missing: drop
  weights: null
model:
  kind: gaussian_mixture
  components: [2, 3, 4, 5, 6]
  covariance: full
fit:
  init: kmeans||
  restarts: 4
  tolerance: 1e-6
  max_passes: 500
  acceleration: anderson
  precision: float64
  select: bic
cluster:
  kind: local
  workers: 2
  partitions: null
output:
  path: runs/nyc-flights
  variables: [label, probability, log_density, uncertainty]
"""

SHORT = """\
version: 1
name: a
data: {kind: npy, path: x.npy}
model: {kind: gaussian_mixture, components: 3}
"""


def refused(text: str, *overrides: str, folder: Path | str = ".") -> str:
    with pytest.raises(ConfigError) as caught:
        loads(text, "my.yaml", folder, overrides)
    assert caught.value.exit_code == 2
    message = str(caught.value)
    for jargon in ("pydantic", "Input should", "validation error", "https://", "<one>", "type="):
        assert jargon not in message
    return message


# what is read


def test_the_quickstart() -> None:
    config = loads(QUICKSTART, "my.yaml", "/somewhere")
    assert isinstance(config.data, ZarrDataConfig)
    assert config.data.features == ("dep_delay", "arr_delay", "air_time", "distance")
    assert isinstance(config.model, GaussianMixtureConfig)
    assert config.model.n_components == (2, 3, 4, 5, 6)
    assert config.model.variants == ("full",)
    assert config.fit.tolerance == 1e-6
    assert isinstance(config.cluster, LocalConfig)
    assert config.cluster.workers == 2
    assert config.run_folder == "/somewhere/runs/nyc-flights"


def test_defaults() -> None:
    config = loads(SHORT, folder="/somewhere")
    assert config.pipeline == "cluster"
    assert config.seed == 0
    assert config.data.scale == "standard"
    assert config.data.missing == "error"
    assert config.model.reg_covar == 1e-6
    assert config.fit.init == "kmeans"
    assert config.cluster == LocalConfig()
    assert config.output.variables == ("label", "probability", "log_density", "uncertainty")
    assert config.output.path is None
    assert config.run_folder == "/somewhere/runs/a"
    assert config.resolved()["output"]["path"] == "runs/a"
    assert config.options == {}


def test_an_integer_is_a_number_but_nothing_else_is_coerced() -> None:
    config = loads(SHORT, overrides=["fit.tolerance=1", "output.variables=[]", "cluster.resident=true"])
    assert config.fit.tolerance == 1.0
    assert isinstance(config.fit.tolerance, float)
    assert config.output.variables == ()
    assert config.cluster.resident is True


def test_overrides_make_sections_and_the_cluster_is_local_unless_said() -> None:
    config = loads(SHORT, overrides=["cluster.workers=3", "model.components=[2,3]", "options.depth.a=no"])
    assert config.cluster == LocalConfig(workers=3)
    assert config.model.n_components == (2, 3)
    assert config.options == {"depth": {"a": "no"}}


def test_given_parameters() -> None:
    text = SHORT.replace("components: 3", "components: 2") + (
        "fit: {init: {weights: [0.25, 0.75], means: [[0, 1], [2, 3]], covariances: [[[1, 0], [0, 1]], "
        "[[2, 0], [0, 2]]]}}"
    )
    init = loads(text).fit.init
    assert isinstance(init, GivenParameters)
    assert init.means == ((0.0, 1.0), (2.0, 3.0))
    assert init.covariances == (((1.0, 0.0), (0.0, 1.0)), ((2.0, 0.0), (0.0, 2.0)))


@pytest.mark.parametrize(
    ("memory", "expected"),
    [
        ("auto", None),
        ("4GiB", 4 << 30),
        ("500MB", 500_000_000),
        ("1.5kb", 1500),
        ("2 TiB", 2 << 40),
        ("8B", 8),
    ],
)
def test_memory(memory: str, expected: int | None) -> None:
    cluster = loads(SHORT, overrides=[f"cluster.memory={memory}"]).cluster
    assert isinstance(cluster, LocalConfig)
    assert cluster.memory_bytes == expected


def test_a_config_is_frozen_and_goes_to_other_processes() -> None:
    config = loads(QUICKSTART, folder="/somewhere")
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 3
    again = pickle.loads(pickle.dumps(config))
    assert again == config
    assert again.folder == config.folder == Path("/somewhere")


# what is refused, and how


@pytest.mark.parametrize(
    ("override", "fact"),
    [
        ("data.feature=[a]", "data.feature: unknown key; the keys of data are kind, path, features"),
        ("data.feature=[a]", 'did you mean "features"?'),
        ("data.group=a", "group belongs to data (zarr, netcdf)"),
        ("fit.covariance=full", "covariance belongs to model"),
        ("sead=1", "the keys of the top level are version, name, pipeline"),
        ("sead=1", 'did you mean "seed"?'),
        ("data.npy=1", "data.npy: unknown key"),
        ("model.gaussian_mixture=1", "model.gaussian_mixture: unknown key"),
        ("cluster={kind: threads, threads: 2}", "cluster.threads: unknown key"),
        ("seed='3'", "seed: needs an integer, got the string '3'"),
        ("seed=true", "seed: needs an integer, got true"),
        ("seed=1.0", "seed: needs an integer, got the number 1.0"),
        ("seed=-1", "seed: needs at least 0, got the integer -1"),
        ("version=2", "version: is the integer 2; allowed values: 1"),
        ("version=true", "version: needs an integer, got true"),
        ("version=1.0", "version: needs an integer, got the number 1.0"),
        ("name=2013", "name: needs text, got the integer 2013; put it in quotes"),
        ("name=..", "name: needs letters, digits"),
        ("name=a/b", "name: needs letters, digits"),
        ("name='a\n'", "name: needs"),
        ("name=", "name: needs text, got null"),
        ("pipeline=a/b", "pipeline: needs a pipeline's name or the path of a .py file"),
        ("data.kind=zar", 'allowed values: zarr, netcdf, parquet, npy, csv, image; did you mean "zarr"?'),
        ("data.kind=[npy]", "data.kind: is a list of 1; allowed values: zarr"),
        ("data={path: x}", "data.kind: is missing; allowed values: zarr, netcdf"),
        ("data={kind: npy}", "data.path: is missing"),
        ("data.path=''", "data.path: must not be empty"),
        ('data.path="a\\0"', "data.path: holds a NUL character"),
        ("data.path=${HOME}/x", "data.path: has a ${…} that is not of the form ${env:NAME}"),
        ("data.features=3", "data.features: needs text, or a list of them, got the integer 3"),
        ("data.features=[a, 3]", "data.features[1]: needs text, got the integer 3"),
        ("data.features=[a, a]", "data.features: names 'a' twice"),
        ("data.features=[]", "data.features: must not be empty"),
        ("data={kind: csv, path: x, derive: {}}", "derive belongs to data (zarr, netcdf, npy, image)"),
        (
            "data.derive.colour=labb",
            "data.derive.colour: is the string 'labb'; allowed values: rgb, lab, luv",
        ),
        ("data.derive.texture=4", "window: is 4; a window about a pixel has an odd side"),
        ("data.derive.texture={measures: [entropy]}", "allowed values: mean, deviation, gradient"),
        ("data.derive.coordinates=0", "data.derive.coordinates: needs more than 0"),
        ("data.derive.colors=lab", 'did you mean "colour"?'),
        (
            "data.missing=marginalise",
            "data.missing: is marginalise, which is for sequences of rows",
        ),
        ("model.kind=cubes", "model.kind: is the string 'cubes'; allowed values: gaussian_mixture"),
        ("model.kind=gausian_mixture", 'did you mean "gaussian_mixture"?'),
        ("model.components=0", "model.components: needs at least 1, got the integer 0"),
        ("model.components=[2, 2]", "model.components: names 2 twice"),
        ("model.components=[2, true]", "model.components[1]: needs an integer, got true"),
        ("model.components=x", "needs an integer, or a list of them, got the string 'x'"),
        ("model.covariance=[full, dia]", "model.covariance[1]: is the string 'dia'"),
        ("model.covariance=[full, dia]", 'did you mean "diag"?'),
        ("model.reg_covar=-1", "model.reg_covar: needs at least 0"),
        ("fit.tolerance=0", "fit.tolerance: needs more than 0, got the integer 0"),
        ("fit.tolerance=.inf", "fit.tolerance: needs a finite number, got the number inf"),
        ("fit.drop=hopless", 'did you mean "hopeless"?'),
        ("fit.drop=true", "allowed values: restarts, hopeless, never"),
        ("fit.select=cvv", "fit.select: is the string 'cvv'; allowed values: bic, aic, icl, cv"),
        ("fit.acceleration=andersen", 'did you mean "anderson"?'),
        ("fit.require_convergence=yes", "needs true or false, got the string 'yes'"),
        ("fit=", "fit: needs a mapping of keys, got null; leave the key out, or give it keys"),
        ("cluster=threads", "got the string 'threads'; write cluster: {kind: threads}"),
        ("cluster.kind=pbs", "allowed values: serial, threads, local, address, slurm, gateway, kubernetes"),
        ("cluster.memory=4", "such as 4GiB or 500MB, got the integer 4"),
        ("cluster.memory=4G", "such as 4GiB or 500MB, got the string '4G'"),
        ("cluster.memory=0GiB", "such as 4GiB"),
        ("cluster.dashboard_address=here", "cluster.dashboard_address: needs host:port"),
        ("cluster={kind: address, address: 'h:1'}", "needs a scheduler's address, tcp://host:port"),
        ("cluster={kind: address, address: 'tls://h:1'}", "cluster.security: is missing; a tls:// address"),
        ("output.encoding.probability=uint4", "output.encoding.probability: is the string 'uint4'"),
        ("output.encoding.compresor=none", 'did you mean "compressor"?'),
        ("output.encoding.level=0", "output.encoding.level: needs at least 1"),
        ("output.encoding={compressor: gzip, level: 10}", "level: is 10; gzip has levels 1 to 9"),
        ("output.variables=[labels]", "output.variables[0]: is the string 'labels'"),
        ("options.a.b=.nan", "options.a.b: is infinite or undefined"),
        ("options=3", "options: needs a mapping of keys, got the integer 3"),
        ("fit.init={means: [[1]]}", "fit.init.weights: is missing"),
        ("fit.init={weights: [1], means: [[a]]}", "fit.init.means[0][0]: needs a number, got the string 'a'"),
        (
            "fit.init={weights: [1], means: [[1], [2]]}",
            "fit.init.weights: needs one weight for each of the 2",
        ),
        ("fit.init={weights: [1, 1], means: [[1], [2]]}", "fit.init.weights: needs numbers of at least 0"),
        ("fit.init={weights: [.5, .5], means: [[1], [2, 3]]}", "fit.init.means: needs rows of one length"),
        ("fit.init={weights: [1], means: [[1]]}", "fit.init: has 1 means; model.components is 3"),
        (
            "fit.init={weights: [.2, .3, .5], means: [[1], [2], [3]], covariances: [1, 1, 1]}",
            "fit.init.covariances: does not have the shape that model.covariance says (full)",
        ),
        ("fit.init=3", "fit.init: needs text, got the integer 3"),
    ],
)
def test_refused(override: str, fact: str) -> None:
    message = refused(SHORT, override)
    assert fact in message
    assert message.startswith("--set ")
    assert "\n" not in message.replace(override, "")  # one mistake, one line


@pytest.mark.parametrize(
    ("init", "meant"),
    [
        ("kmean++", "kmeans++"),
        ("k-means++", "kmeans++"),
        ("KMeans", "kmeans"),
        ("kmeans|", "kmeans||"),
        ("random-from-data", "random_from_data"),
        ("radom", "random"),
    ],
)
def test_a_misspelt_init_is_not_taken_for_a_path(init: str, meant: str, tmp_path: Path) -> None:
    assert f'did you mean "{meant}"?' in refused(SHORT, f"fit.init={init}", folder=tmp_path)
    (tmp_path / init).mkdir()
    assert loads(SHORT, folder=tmp_path, overrides=[f"fit.init={init}"]).fit.init == init


@pytest.mark.parametrize("init", ["runs/kmeans", "./kmean", "s3://bucket/run", "last-week"])
def test_init_may_be_a_run_folder(init: str) -> None:
    assert loads(SHORT, overrides=[f"fit.init={init}"]).fit.init == init


def test_all_problems_at_once_with_their_places() -> None:
    text = (
        QUICKSTART.replace("scale", "scael")
        .replace("kmeans||", "kmean||")
        .replace("workers: 2", "workers: no")
    )
    first, second, third = refused(text).splitlines()
    assert first.startswith(
        "my.yaml:8:3: data.scael: unknown key; the keys of data are kind, path, features, "
    )
    assert first.endswith(' did you mean "scale"?')
    assert second.startswith(
        "my.yaml:16:3: fit.init: is 'kmean||', neither a method nor a run folder that exists"
    )
    assert second.endswith('; did you mean "kmeans||"?')
    assert third == "my.yaml:25:3: cluster.workers: needs an integer, got the string 'no'"


def test_at_most_ten_problems_are_shown() -> None:
    lines = refused(SHORT + "".join(f"x{i}: 1\n" for i in range(15))).splitlines()
    assert len(lines) == 11
    assert lines[0].startswith("my.yaml:5:1: x0: unknown key")
    assert lines[-1] == "and 5 more"


def test_a_wrong_kind_hides_what_cannot_be_judged() -> None:
    message = refused(SHORT, "model={kind: hidden_markow, stages: 3}")
    assert "stages" not in message.removeprefix("--set model={kind: hidden_markow, stages: 3}")


@pytest.mark.parametrize(
    ("text", "fact"),
    [("", "my.yaml:1:1: the config is empty"), ("- 1", "got a list of 1"), ("3", "got the integer")],
)
def test_a_config_is_a_mapping(text: str, fact: str) -> None:
    assert fact in refused(text)


# the environment


FULL_OF_ENV = """\
version: 1
name: a
data:
  kind: zarr
  path: s3://${env:T_BUCKET}/x.zarr
  storage_options: {secret: "${env:T_SECRET}", client_kwargs: {endpoint_url: "${env:T_URL}"}}
model: {kind: gaussian_mixture, components: 3}
fit: {init: "${env:T_WARM}/run"}
cluster:
  kind: address
  address: ${env:T_ADDRESS}
  security: {ca_file: "${env:T_TLS}/ca.pem", cert: "${env:T_TLS}/cert.pem", key: "tls/${env:T_KEY}"}
output: {path: "${env:T_OUT}/out"}
"""
VALUES = {
    "T_BUCKET": f"{CANARY}-bucket",
    "T_SECRET": f"{CANARY}/sec\\ret+'é\"",
    "T_URL": f"http://user:{CANARY}@{CANARY}-host:9000/path",
    "T_WARM": f"/{CANARY}-warm/",
    "T_ADDRESS": f"tls://{CANARY}-scheduler:8786",
    "T_TLS": f"../{CANARY}-tls",
    "T_KEY": f"{CANARY}-key",
    "T_OUT": f"{CANARY}-out/./x",
}


@pytest.fixture
def filled(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    for name, value in VALUES.items():
        monkeypatch.setenv(name, value)
    return VALUES


@pytest.mark.usefixtures("filled")
def test_values_are_there_for_builders() -> None:
    config = loads(FULL_OF_ENV, folder="/somewhere")
    assert config.locate(config.data.path) == f"s3://{CANARY}-bucket/x.zarr"
    assert isinstance(config.data, ZarrDataConfig)
    assert expand_all(config.data.storage_options) == {
        "secret": VALUES["T_SECRET"],
        "client_kwargs": {"endpoint_url": VALUES["T_URL"]},
    }
    assert isinstance(config.cluster, AddressConfig)
    assert config.cluster.security is not None
    assert expand(config.cluster.address) == VALUES["T_ADDRESS"]
    assert config.locate(config.cluster.security.key) == f"/somewhere/tls/{CANARY}-key"
    assert config.run_folder == f"/somewhere/{CANARY}-out/x/out"
    assert isinstance(config.fit.init, str)
    assert config.locate(config.fit.init) == f"/{CANARY}-warm/run"


@pytest.mark.usefixtures("filled")
def test_values_are_nowhere_else(tmp_path: Path) -> None:
    config = loads(FULL_OF_ENV, folder=tmp_path)
    shown = [
        repr(config),
        str(config),
        json.dumps(config.resolved()),
        config.to_yaml(tmp_path / "runs" / "a"),
        config.hash(),
        repr(config.model_dump()),
        config.model_dump_json(),
        repr(pickle.dumps(config)),
    ]
    assert not [text for text in shown if CANARY in text]
    assert "${env:T_SECRET}" in shown[3]


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    "override",
    [
        "data.kind=zar",
        "seed=x",
        "fit.init=${env:T_WARM",
        "data.path=${env:T_BUCKET}${x}",
        "cluster.security.ca=1",
    ],
)
def test_values_are_in_no_refusal(override: str) -> None:
    assert CANARY not in refused(FULL_OF_ENV, override)


def test_the_hash_does_not_depend_on_the_values(
    monkeypatch: pytest.MonkeyPatch, filled: dict[str, str]
) -> None:
    before = loads(FULL_OF_ENV).hash()
    for name in filled:
        monkeypatch.setenv(name, "/other")
    assert loads(FULL_OF_ENV).hash() == before


@pytest.mark.usefixtures("filled")
def test_redact() -> None:
    config = loads(FULL_OF_ENV, folder="/somewhere")
    located = config.locate(config.data.path)
    assert config.redact(f"{located} does not exist") == "s3://${env:T_BUCKET}/x.zarr does not exist"
    run = config.run_folder
    assert config.redact(f"[Errno 2] No such file: {run!r}") == "[Errno 2] No such file: '${env:T_OUT}/out'"
    for text in (
        json.dumps(VALUES),
        repr(VALUES),
        f"{CANARY}-bucket/x.zarr",
        f"cannot resolve {CANARY}-host:9000",
        f"cannot resolve {CANARY}-host",
        f"authenticate as user with {CANARY}",
        f"/{CANARY}-warm",
        os.path.realpath(config.locate("${env:T_TLS}/ca.pem")),
        VALUES["T_URL"],
        quote(VALUES["T_SECRET"], safe=""),
    ):
        assert CANARY not in config.redact(text), text


def test_redacting_does_not_touch_what_it_put_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("T_A", "env")
    monkeypatch.setenv("T_B", "T_A")
    config = loads(SHORT, overrides=["data.path=${env:T_A}/${env:T_B}.npy"])
    assert config.redact("env and T_A") == "${env:T_A} and ${env:T_B}"
    assert loads(SHORT).redact("env and T_A") == "env and T_A"


@pytest.mark.parametrize(("value", "state"), [(None, "is not set"), ("", "is empty")])
def test_an_unset_variable_is_named_and_its_neighbours_kept_quiet(
    value: str | None, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("T_NOT", raising=False)
    if value is not None:
        monkeypatch.setenv("T_NOT", value)
    monkeypatch.setenv("T_SET", CANARY)
    text = SHORT.replace("path: x.npy", 'path: "${env:T_SET}/${env:T_NOT}"')
    message = refused(text)
    assert message.startswith("my.yaml:3:19: data.path: ")
    assert f"the environment variable T_NOT {state}; export T_NOT=…" in message
    assert CANARY not in message
    config = loads(text, require_env=False)
    assert CANARY not in config.redact(f"{CANARY}/x")
    config.hash(), config.to_yaml("/elsewhere")
    with pytest.raises(ConfigError, match=f"T_NOT {state}") as caught:
        config.locate(config.data.path)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    "override",
    [
        "name='${env:HOME}'",
        "pipeline='${env:HOME}.py'",
        "data.features=['${env:HOME}']",
        "data.weights='${env:HOME}'",
        "options.a=['${env:HOME}']",
        "fit.precision='${env:HOME}'",
        "cluster.memory='${env:HOME}'",
        "options={'${env:HOME}': 1}",
    ],
)
def test_the_environment_is_for_locations_and_secrets(override: str) -> None:
    message = refused(SHORT, override)
    assert "it may stand in data.path, data.storage_options, fit.init, cluster.address" in message
    assert message.count("\n") == 0
    assert os.environ["HOME"] not in message


@pytest.mark.parametrize(
    ("options", "place"),
    [
        (f"{{secret: {CANARY}}}", "storage_options.secret: "),
        (
            f"{{client_kwargs: {{aws_session_token: {CANARY}}}}}",
            "storage_options.client_kwargs.aws_session_token: ",
        ),
        (f"{{headers: {{Authorization: Bearer {CANARY}}}}}", "storage_options.headers.Authorization: "),
        (f"{{x: '${{{CANARY}}}'}}", "storage_options.x: "),
    ],
)
def test_a_secret_written_out_is_refused_unseen(options: str, place: str) -> None:
    text = SHORT.replace("kind: npy, path: x.npy", "kind: zarr, path: s3://b/x.zarr")
    for message in (
        refused(text, f"data.storage_options={options}"),
        refused(text.replace("x.zarr", f"x.zarr, storage_options: {options}")),
    ):
        assert place in message
        assert CANARY not in message


@pytest.mark.parametrize("override", [f"data.storage_options={CANARY}", f"cluster.security={CANARY}"])
def test_a_secret_in_the_wrong_place_is_refused_unseen(override: str) -> None:
    text = SHORT.replace("kind: npy", "kind: zarr") + "cluster: {kind: address, address: 'tls://h:1'}"
    message = refused(text, override)
    assert "needs a mapping of keys, got something else" in message
    assert CANARY not in message


def test_a_password_in_a_url_is_refused_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    message = refused(SHORT, f"data.path=https://me:{CANARY}@host/x.npy")
    assert "data.path: holds a password" in message
    assert CANARY not in message
    monkeypatch.setenv("T_PASSWORD", "x")
    loads(SHORT, overrides=["data.path=https://me:${env:T_PASSWORD}@host/x.npy"])


def test_a_password_in_an_override_is_refused_unseen() -> None:
    gateway = "kind: gateway, address: 'http://h', adapt: {minimum: 1, maximum: 2}"
    message = refused(SHORT, f"cluster={{{gateway}, password: {CANARY}}}")
    assert "${env:NAME}" in message
    assert CANARY not in message
    assert CANARY not in refused(SHORT, f"cluster.password={CANARY}")


def test_storage_options_take_what_fsspec_takes() -> None:
    text = SHORT.replace("kind: npy, path: x.npy", "kind: zarr, path: s3://b/x.zarr")
    config = loads(text, overrides=["data.storage_options={anon: true, token: anon, n: 3, k: {a: b}}"])
    assert isinstance(config.data, ZarrDataConfig)
    assert config.data.storage_options == {"anon": True, "token": "anon", "n": 3, "k": {"a": "b"}}


# files, folders and paths


def test_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my.yaml").write_text(QUICKSTART)
    monkeypatch.chdir(tmp_path)
    config = load("my.yaml", ["seed=3"])
    assert config.seed == 3
    assert config.folder == tmp_path
    assert config.locate("data/x") == str(tmp_path / "data" / "x")
    assert config.locate("../x") == str(tmp_path.parent / "x")
    assert config.locate("/abs/x") == "/abs/x"
    assert config.locate("s3://b/x") == "s3://b/x"
    assert config.locate("~/x") == os.path.expanduser("~/x")


def test_a_path_is_not_shortened_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "far" / "deep").mkdir(parents=True)
    (tmp_path / "far" / "x.npy").touch()
    (tmp_path / "link").symlink_to(tmp_path / "far" / "deep")
    config = loads(SHORT, folder=tmp_path, overrides=["data.path=link/../x.npy"])
    assert os.path.exists(config.locate(config.data.path))
    run = tmp_path / "runs" / "a"
    again = loads(config.to_yaml(run), folder=run)
    run.mkdir(parents=True)
    assert os.path.samefile(again.locate(again.data.path), tmp_path / "far" / "x.npy")


def test_a_config_that_is_a_link_stands_where_the_link_stands(tmp_path: Path) -> None:
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "my.yaml").write_text(SHORT)
    (tmp_path / "my.yaml").symlink_to("hidden/my.yaml")
    assert load(tmp_path / "my.yaml").folder == tmp_path


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (None, "does not exist"),
        ("folder", "is a folder"),
        (b"a: \xff", "is not UTF-8 text"),
        (b"#" * (1 << 20) + b"\n", "at most 1048576 are read"),
        (b"#" * (1 << 20) + b"\xc3\xa9\n", "bytes; at most 1048576"),
    ],
)
def test_a_file_that_cannot_be_read(content: object, fact: str, tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    if content == "folder":
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=fact) as caught:
        load(path)
    assert str(path) in str(caught.value)


def test_to_yaml_works_from_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("T_HERE", "part")
    monkeypatch.setenv("T_AWAY", "/away")
    tls = "security: {ca_file: tls/ca.pem, cert: '${env:T_HERE}/c', key: '${env:T_AWAY}/k'}"
    (tmp_path / "kmean").mkdir()
    text = SHORT.replace("x.npy", "data/x.npy") + (
        "pipeline: jobs/mine.py\n"
        "fit: {init: kmean}\n"
        f"cluster: {{kind: address, address: 'tls://h:1', {tls}}}\n"
        "output: {path: 'out/${env:T_HERE}-1'}\n"
    )
    config = loads(text, folder=tmp_path)
    run = Path(config.run_folder)
    assert run == tmp_path / "out" / "part-1"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(config.to_yaml(run))
    again = load(run / "config.yaml")
    assert again.hash() == config.hash()
    assert again.run_folder == config.run_folder
    assert isinstance(config.cluster, AddressConfig)
    assert isinstance(again.cluster, AddressConfig)
    assert config.cluster.security is not None
    assert again.cluster.security is not None
    pairs = [
        (config.pipeline, again.pipeline),
        (config.data.path, again.data.path),
        (str(config.fit.init), str(again.fit.init)),
        *zip(config.cluster.security.model_dump().values(), again.cluster.security.model_dump().values()),
    ]
    for before, after in pairs:
        assert os.path.realpath(config.locate(before)) == os.path.realpath(again.locate(after))
    assert again.data.path == "../../data/x.npy"
    assert again.cluster.security.key == "${env:T_AWAY}/k"
    assert "part" not in (run / "config.yaml").read_text().replace("partitions", "")
    # and once more from another place, and from an object store
    assert loads(again.to_yaml("/else/where"), folder="/else/where").hash() == config.hash()
    assert loads(config.to_yaml("s3://bucket/run"), folder="/else/where").hash() == config.hash()


@pytest.mark.parametrize(
    ("override", "same"),
    [
        ("name=b", True),
        ("cluster={kind: threads, workers: 3}", True),
        ("output.path=elsewhere", True),
        ("output.report=false", True),
        ("data.path=./sub/../x.npy", True),
        ("fit.tolerance=0.000001", True),
        ("seed=1", False),
        ("pipeline=other", False),
        ("data.path=y.npy", False),
        ("data.scale=none", False),
        ("data.derive={texture: 5}", False),
        ("model.components=4", False),
        ("fit.tolerance=1e-5", False),
        ("fit.kernels=reference", False),
        ("output.variables=[label]", False),
        ("output.encoding.probability=uint8", False),
        ("options.a=1", False),
    ],
)
def test_the_hash_is_of_what_decides_the_result(override: str, same: bool) -> None:
    before, after = loads(SHORT).hash(), loads(SHORT, overrides=[override]).hash()
    assert len(before) == 64
    assert (before == after) is same


def test_the_hash_is_of_the_data_not_of_where_the_config_lies(tmp_path: Path) -> None:
    here = loads(SHORT, folder=tmp_path)
    above = loads(SHORT, folder=tmp_path.parent, overrides=[f"data.path={tmp_path.name}/x.npy"])
    assert here.hash() == above.hash()
    assert here.hash() != loads(SHORT, folder=tmp_path.parent).hash()


# the schema


def walk(tree: Any) -> Any:
    if isinstance(tree, dict):
        yield tree
        for item in tree.values():
            yield from walk(item)
    elif isinstance(tree, list):
        for item in tree:
            yield from walk(item)


def test_the_schema_is_closed_and_described() -> None:
    body = schema()
    json.dumps(body, allow_nan=False)
    assert body["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert body["required"] == ["version", "name", "data", "model"]
    sections = [body, *body["$defs"].values()]
    assert len(sections) > 12
    for section in sections:
        assert section["type"] == "object"
        assert section["additionalProperties"] is False
        for key, field in section["properties"].items():
            assert field.get("description"), (section["title"], key)
    for node in walk(body):
        if "$ref" in node:
            assert node["$ref"].removeprefix("#/$defs/") in body["$defs"]


def test_the_schema_knows_the_quickstart() -> None:
    """The keys and enumerations an editor would check the quickstart by."""
    body = schema()
    tree = loads(QUICKSTART).resolved()
    assert set(tree) <= set(body["properties"])
    defs = body["$defs"]
    for section, name in [
        ("data", "ZarrDataConfig"),
        ("model", "GaussianMixtureConfig"),
        ("fit", "FitConfig"),
        ("cluster", "LocalConfig"),
        ("output", "OutputConfig"),
    ]:
        properties = defs[name]["properties"]
        assert set(tree[section]) == set(properties)
        for key, value in tree[section].items():
            if "enum" in properties[key]:
                assert value in properties[key]["enum"]
    # a cluster without a kind must fit one alternative only
    kinds = {name: section for name, section in defs.items() if "kind" in section["properties"]}
    assert [name for name, section in kinds.items() if "kind" not in section.get("required", ())] == [
        "LocalConfig"
    ]


def test_importing_config_stays_cheap() -> None:
    code = (
        "import sys, distem.config;"
        "heavy = {'numpy', 'dask', 'distributed', 'xarray', 'zarr', 'pandas', 'numba'} & set(sys.modules);"
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# any config


text_keys = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8).filter(
    lambda s: "${" not in s
)
paths = st.lists(
    st.sampled_from(["a", "..", ".", "b c", "010", "é", "~x", "no"]), min_size=1, max_size=4
).map("/".join)
anywhere = paths | paths.map("/{}".format) | paths.map("s3://bucket/{}".format) | st.just("~/x")
json_trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text_keys,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text_keys, inner, max_size=3),
    max_leaves=8,
)
counts = st.integers(1, 10**6)
positive = st.floats(1e-300, 1e300)


def some(required: dict[str, Any], optional: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(required, optional=optional)


def one_or_more(items: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return items | st.lists(items, min_size=1, max_size=4, unique=True)


common: dict[str, Any] = {
    "features": st.none() | one_or_more(text_keys),
    "sample_dims": st.none() | st.lists(text_keys, min_size=1, max_size=3, unique=True),
    "feature_dim": st.none() | text_keys,
    "scale": st.sampled_from(["none", "standard", "whiten"]),
    "missing": st.sampled_from(["error", "drop"]),
    "weights": st.none() | text_keys,
}
cluster_common: dict[str, Any] = {
    "partitions": st.none() | counts,
    "resident": st.none() | st.booleans(),
}
tree_of_config = some(
    {
        "version": st.just(1),
        "name": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True),
        "data": some(
            {"kind": st.sampled_from(["zarr", "netcdf"]), "path": anywhere},
            {**common, "group": st.none() | text_keys},
        )
        | some(
            {"kind": st.sampled_from(["parquet", "npy", "csv", "image"]), "path": anywhere},
            {**common, "block_rows": st.none() | counts},
        ),
        "model": some(
            {"kind": st.just("gaussian_mixture"), "components": one_or_more(counts)},
            {
                "covariance": one_or_more(st.sampled_from(["full", "tied", "diag", "spherical"])),
                "reg_covar": st.just(0) | positive,
                "floor": positive,
                "on_collapse": st.sampled_from(["reseed", "drop"]),
            },
        ),
    },
    {
        "pipeline": st.just("other") | paths.map("{}.py".format),
        "seed": st.integers(0, 10**30),
        "fit": some(
            {},
            {
                "init": st.sampled_from(["kmeans", "kmeans||", "random_from_data"])
                | anywhere.map("{}/run".format),
                "restarts": counts,
                "tolerance": positive,
                "require_convergence": st.booleans(),
            },
        ),
        "cluster": some(
            {}, {**cluster_common, "workers": counts, "memory": st.sampled_from(["auto", "3GiB"])}
        )
        | some({"kind": st.sampled_from(["serial", "threads"])}, {**cluster_common, "workers": counts}),
        "output": some(
            {},
            {
                "path": st.none() | anywhere,
                "variables": st.lists(st.sampled_from(["label", "probability"]), unique=True),
                "report": st.booleans(),
            },
        ),
        "options": st.dictionaries(text_keys, json_trees, max_size=3),
    },
)


@settings(deadline=None)
@given(tree_of_config)
@example(
    {
        "version": 1,
        "name": "a",
        "data": {"kind": "npy", "path": "~x"},
        "model": {"kind": "gaussian_mixture", "components": 1},
        "output": {"path": "~x/y"},
    }
)
def test_any_config_survives_being_written(tree: dict[str, Any]) -> None:
    config = loads(write(tree), "my.yaml", "/somewhere")
    assert loads(write(config.resolved()), "again.yaml", "/somewhere").resolved() == config.resolved()
    run = "/somewhere/runs/deep/a"
    again = loads(config.to_yaml(run), "run.yaml", run)
    assert again.hash() == config.hash()
    assert os.path.realpath(again.run_folder) == os.path.realpath(config.run_folder)
    assert again.to_yaml(run) == config.to_yaml(run)


@settings(deadline=None)
@given(tree_of_config, st.data())
@example({"version": 1, "name": "a", "data": {"kind": ["zarr"]}, "model": {"kind": {}}}, None)
def test_any_damage_is_refused_in_plain_words(tree: dict[str, Any], data: Any) -> None:
    if data is not None:
        section = data.draw(st.sampled_from(["", *tree]))
        holder = tree.get(section)
        holder = holder if isinstance(holder, dict) else tree
        holder[data.draw(st.sampled_from([*holder, "kind", "path", "init", "new"]))] = data.draw(json_trees)
    try:
        loads(write(tree), "my.yaml", "/somewhere")
    except ConfigError as error:
        lines = str(error).splitlines()
        assert all(line.startswith(("my.yaml:", "and ")) for line in lines)
        assert "pydantic" not in str(error)  # noqa: PT017

    assert isinstance(loads(SHORT, overrides=["cluster.kind=threads"]).cluster, ThreadsConfig)
    assert isinstance(loads(SHORT), Config)


def test_derived_features() -> None:
    config = loads(SHORT, overrides=["data.derive={colour: lab, coordinates: 0.5, texture: 5}"])
    assert config.data.derive.build() == Derive("lab", Texture(5, ("deviation",)), 0.5)
    assert loads(config.to_yaml("/else/where"), folder="/else/where").data.derive == config.data.derive
