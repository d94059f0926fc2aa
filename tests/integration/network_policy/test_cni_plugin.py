"""The CNI plugin closes a new pod's address, and refuses a node that could not keep it closed."""

import json
import os
import subprocess
from typing import Any

import pytest

from prefect_platform_cli.host.paths import REPOSITORY
from tests.integration.network_policy.network import NODE, OUTSIDE, Network

_PLUGIN = REPOSITORY / "network-policy-agent" / "network_policy" / "cni_plugin.py"
_RESULT = {"cniVersion": "1.0.0", "ips": [{"address": "198.18.1.10/32", "interface": 0}]}


def _run(net: Network, place: str, command: str, **config: object) -> tuple[int, dict[str, Any]]:
    """Run the plugin in a place's network; its exit status and what it prints."""
    ended = subprocess.run(
        ["ip", "netns", "exec", net.places[place].namespace, _PLUGIN],
        env={
            **os.environ,
            "CNI_COMMAND": command,
            "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=home;K8S_POD_UID=server",
        },
        input=json.dumps({"cniVersion": "1.0.0", "name": "pods", **config}),
        capture_output=True,
        text=True,
        check=False,
    )
    return ended.returncode, json.loads(ended.stdout or "{}")


def test_a_new_pod_that_gets_a_known_address_is_closed_until_an_agent_knows_it(
    net: Network,
) -> None:
    net.enforce()
    assert net.out_of("server")

    added = _run(net, NODE, "ADD", prevResult=_RESULT)

    assert added == (0, _RESULT)
    assert net.out_of("server") == set()


def test_a_pod_is_refused_where_its_address_cannot_be_closed(net: Network) -> None:
    status, printed = _run(net, OUTSIDE, "ADD", prevResult=_RESULT)

    assert status == 1
    assert printed["msg"].startswith("the pod's address 198.18.1.10 cannot be closed: Error")


@pytest.mark.parametrize("command", ["DEL", "CHECK"])
def test_a_pod_that_goes_needs_nothing(net: Network, command: str) -> None:
    assert _run(net, OUTSIDE, command) == (0, {})


def test_the_versions_of_the_contract_are_told(net: Network) -> None:
    status, printed = _run(net, NODE, "VERSION")

    assert status == 0
    assert "1.0.0" in printed["supportedVersions"]
