"""A scheduler that somebody else has started, as docs/clusters.md has it."""

import os
import shutil

import pytest
from following import block, configs, follow
from harness import row
from runs import manifest

pytestmark = [pytest.mark.cluster, pytest.mark.slow_cluster, pytest.mark.timeout(300)]


def test_the_docs_can_be_followed(tmp_path):
    """In a network of its own, where the ports of the docs are free."""
    tally = row("address: the docs' commands")
    if os.geteuid() or shutil.which("unshare") is None or shutil.which("ip") is None:
        tally.skipped = "needs root, unshare and iproute2"
        pytest.skip(tally.skipped)
    tally.tried += 1
    text = "ip link set lo up\n" + block("clusters.md", "clusters/address.yaml")
    follow(text, configs(tmp_path), os.environ, "unshare", "--net")
    assert manifest(tmp_path / "configs" / "runs" / "flights-address")["status"] == "complete"
    tally.survived += 1
