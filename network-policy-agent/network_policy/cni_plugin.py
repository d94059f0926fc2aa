#!/usr/bin/python3
"""The last CNI plugin of the node: it closes a new pod's address until its policies are in force.

containerd runs it as the CNI specification defines: the command is in the environment, standard
input has the configuration with the previous plugins' result, and the plugin prints that result
again. It is a single file without a package because it runs on the node, not in the agent's pod.
"""

import json
import os
import socket
import subprocess
import sys

_AGENT = "/run/network-policy/agent.sock"
_WAIT = 6  # seconds; the agent answers or closes the connection earlier
_SET = "inet network-policy known"


def main() -> None:
    """Run one CNI command. The command DEL, for a deleted pod, needs no action."""
    command = os.environ["CNI_COMMAND"]
    if command == "VERSION":
        print(json.dumps({"cniVersion": "1.0.0", "supportedVersions": ["0.4.0", "1.0.0"]}))
    elif command == "ADD":
        result = json.load(sys.stdin)["prevResult"]
        arguments = dict(each.split("=", 1) for each in os.environ["CNI_ARGS"].split(";"))
        for each in result["ips"]:
            address = each["address"].partition("/")[0]
            _close(address)
            _wait_for_policies(arguments["K8S_POD_UID"], address)
        print(json.dumps(result))


def _close(address: str) -> None:
    """Remove `address` from the set of known addresses, where an earlier pod may have left it."""
    element = f"element {_SET} {{ {address} }}"
    ended = subprocess.run(
        ["nft", f"add {element}; delete {element}"], capture_output=True, text=True, check=False
    )
    if ended.returncode != 0:  # without the table, the pod would be open
        failure = f"the pod's address {address} cannot be closed: {ended.stderr.strip()}"
        print(json.dumps({"cniVersion": "1.0.0", "code": 100, "msg": failure}))
        sys.exit(1)


def _wait_for_policies(uid: str, address: str) -> None:
    """Announce the pod to the agent; without an answer in time, the pod starts closed."""
    with socket.socket(socket.AF_UNIX) as agent:
        agent.settimeout(_WAIT)
        try:
            agent.connect(_AGENT)
            agent.sendall(json.dumps({"uid": uid, "address": address}).encode() + b"\n")
            agent.recv(64)
        except OSError as error:
            print(f"{address} stays closed until the agent knows it: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
