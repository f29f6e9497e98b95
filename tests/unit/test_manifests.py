"""Manifests for Kubernetes, against the schemas where they are installed."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from jsonschema import Draft7Validator

from distem.cli import main
from distem.config import loads

CONFIG = Path(__file__).parents[2] / "configs" / "clusters" / "kubernetes.yaml"


def made(*overrides, code=0):
    words = [word for override in overrides for word in ("--set", override)]
    result = CliRunner().invoke(main, ["manifests", str(CONFIG), *words])
    assert result.exit_code == code, result.stderr
    return {doc["kind"]: doc for doc in yaml.safe_load_all(result.stdout)} if code == 0 else result.stderr


def test_the_schedule_makes_a_cron_job_and_without_it_there_is_a_job():
    assert list(made()) == ["ConfigMap", "DaskCluster", "DaskAutoscaler", "CronJob"]
    assert list(made("cluster.schedule=null")) == ["ConfigMap", "DaskCluster", "DaskAutoscaler", "Job"]


def test_the_driver_reads_a_config_that_is_whole_and_repeats_on_75_only():
    docs = made("cluster.schedule=null", "cluster.secret=keys", "cluster.namespace=night")
    inside = loads(docs["ConfigMap"]["data"]["config.yaml"])
    assert inside.cluster.address == "tcp://flights-scheduler.night:8786"
    assert inside.output.path == "/data/runs/flights"
    job = docs["Job"]["spec"]
    (rule,) = job["podFailurePolicy"]["rules"]
    assert (rule["action"], rule["onExitCodes"]["values"]) == ("FailJob", [2, 3, 4])
    (driver,) = job["template"]["spec"]["containers"]
    assert driver["envFrom"] == [{"secretRef": {"name": "keys"}}]
    volumes = {volume["name"] for volume in job["template"]["spec"]["volumes"]}
    assert {mount["name"] for mount in driver["volumeMounts"]} == volumes == {"config", "data"}


def test_what_pods_do_not_see_is_refused():
    assert "/data" in made("output.path=runs/x", code=2)
    assert "output.path is runs/" in made("output.path=null", code=2)
    assert "fit.init is ./runs/last" in made("fit.init=./runs/last", code=2)
    assert "output.match is ./runs/last" in made("output.match=./runs/last", code=2)
    assert "kubernetes only" in made("cluster={kind: serial}", code=2)


@pytest.mark.parametrize("schedule", ["null", "15 2 * * *"])
def test_they_are_what_kubernetes_takes(schedule):
    validate = pytest.importorskip("kubernetes_validate")
    for kind, doc in made(f"cluster.schedule={schedule}", "cluster.secret=keys").items():
        if not kind.startswith("Dask"):
            validate.validate(doc, "1.31", strict=True)


@pytest.mark.parametrize("kind", ["DaskCluster", "DaskAutoscaler"])
def test_they_are_what_the_operator_takes(kind):
    operator = find_spec("dask_kubernetes")
    if operator is None:
        pytest.skip("needs the extra kubernetes")
    chart = Path(operator.origin).parent / "operator" / "deployment" / "helm" / "dask-kubernetes-operator"
    crd = yaml.safe_load((chart / "crds" / f"{kind.lower()}.yaml").read_text(encoding="utf-8"))
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    doc = made("cluster.secret=keys")[kind]
    assert [e.message for e in Draft7Validator(schema).iter_errors(doc)] == []
    doc["spec"].popitem()
    assert not Draft7Validator(schema).is_valid(doc)
