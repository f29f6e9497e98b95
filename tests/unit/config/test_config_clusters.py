"""Clusters that others run: what their configs say, what is refused, and what is said without a package."""

import sys
from pathlib import Path

import pytest
from runs import settings

from distem.config import load
from distem.config.cluster import (
    AddressConfig,
    GatewayConfig,
    KubernetesConfig,
    LocalConfig,
    SlurmConfig,
)
from distem.config.reading import loads
from distem.config.yaml import write
from distem.errors import ConfigError
from distem.execution.base import Capacity

FOLDER = Path(__file__).parents[3] / "configs" / "clusters"
KINDS = {
    "local": LocalConfig,
    "address": AddressConfig,
    "address-tls": AddressConfig,
    "slurm": SlurmConfig,
    "gateway": GatewayConfig,
    "kubernetes": KubernetesConfig,
}
SLURM = {"kind": "slurm", "adapt": {"minimum": 2, "maximum": 4}, "cores": 3, "memory": "2GiB"}
ADDRESS = {"kind": "address", "address": "tcp://127.0.0.1:8786"}
GATEWAY = {"kind": "gateway", "address": "http://127.0.0.1:8000", "adapt": {"maximum": 2}}
KUBERNETES = {"kind": "kubernetes", "adapt": {"maximum": 2}, "image": "here/distem:1", "memory": "1GiB"}


def read(cluster):
    return loads(write(settings(cluster=cluster)))


def test_each_kind_has_a_config():
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_it_is_of_its_kind_and_means_the_same_written_elsewhere(name, monkeypatch, tmp_path):
    monkeypatch.setenv("GATEWAY_PASSWORD", "canary")
    config = load(FOLDER / f"{name}.yaml")
    assert isinstance(config.cluster, KINDS[name])
    again = loads(config.to_yaml(tmp_path), folder=tmp_path)
    assert again.hash() == config.hash()
    assert "canary" not in config.to_yaml(tmp_path)


@pytest.mark.parametrize(
    ("cluster", "capacity"),
    [
        (SLURM, Capacity(2, 6, 2 << 30)),
        (GATEWAY, Capacity(1, 1, None)),
        (GATEWAY | {"threads": 2, "memory": "1GiB"}, Capacity(1, 2, 1 << 30)),
        (KUBERNETES | {"threads": 4}, Capacity(1, 4, 1 << 30)),
    ],
)
def test_the_plan_counts_on_the_smallest_number_and_starts_nothing(cluster, capacity):
    config = read(cluster)
    assert config.cluster.capacity(config.locate) == capacity


@pytest.mark.parametrize(("walltime", "seconds"), [("00:30:00", 1800), ("1-02:00:01", 93601)])
def test_a_walltime_in_seconds(walltime, seconds):
    assert read(SLURM | {"walltime": walltime}).cluster.seconds == seconds


@pytest.mark.parametrize(
    ("cluster", "words"),
    [
        (SLURM | {"adapt": {"minimum": 3, "maximum": 2}}, "more than the maximum of 2"),
        (SLURM | {"memory": "auto"}, "needs a size"),
        (SLURM | {"walltime": "2h"}, "hours:minutes:seconds"),
        (SLURM | {"tls": False}, "--insecure"),
        (SLURM | {"host": "10.0.0.1", "interface": "ib0"}, "interface"),
        (SLURM | {"job_extra": ["--x\nrm -rf /"]}, "one line"),
        (SLURM | {"queue": "a b; true"}, "cluster.queue"),
        (SLURM | {"adapt": {"most": 2}}, "maximum"),
        (GATEWAY | {"password": "plain"}, "${env:NAME}"),
        (GATEWAY | {"address": "127.0.0.1"}, "https://host"),
        (KUBERNETES | {"memory": "auto"}, "evicted"),
        (KUBERNETES | {"name": "Not_A_Label"}, "cluster.name"),
    ],
)
def test_what_cannot_be_is_refused(cluster, words):
    with pytest.raises(ConfigError) as caught:
        read(cluster)
    assert words in str(caught.value)


def test_without_tls_slurm_stays_on_this_machine_or_says_insecure():
    assert not read(SLURM | {"tls": False, "host": "127.0.0.1"}).cluster.tls
    assert not read(SLURM | {"tls": False, "insecure": True}).cluster.tls


@pytest.mark.parametrize(
    "cluster", [ADDRESS, SLURM, GATEWAY, KUBERNETES], ids=lambda cluster: cluster["kind"]
)
@pytest.mark.parametrize("allowed", [False, True])
def test_skew_can_be_allowed_wherever_others_install_the_workers(cluster, allowed, monkeypatch):
    """As the error that refuses it says."""
    heard = {}

    def made(*_, **options):
        heard.update(options)

    kind = cluster["kind"]
    monkeypatch.setattr(f"distem.execution.dask.{'connect' if kind == 'address' else f'{kind}.{kind}'}", made)
    config = read(cluster | ({"allow_version_skew": True} if allowed else {}))
    config.cluster.build(config.locate)
    assert heard["allow_version_skew"] is allowed


@pytest.mark.parametrize(
    ("cluster", "module"),
    [(SLURM, "dask_jobqueue"), (GATEWAY, "dask_gateway"), (KUBERNETES, "dask_kubernetes.operator")],
)
def test_a_package_that_is_absent_is_named_with_its_extra(cluster, module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    config = read(cluster)
    with pytest.raises(ConfigError) as caught:
        config.cluster.build(config.locate)
    assert f'pip install "distem[{cluster["kind"]}]"' in str(caught.value)
    assert caught.value.exit_code == 2
