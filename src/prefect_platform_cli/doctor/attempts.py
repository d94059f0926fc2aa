"""Run inside a probe pod, from standard input: try addresses, and print what each try said."""

import json
import socket
import sys
from concurrent.futures import ThreadPoolExecutor

_SECONDS = 3  # policies drop, so that a denial is silence


def attempt(address: tuple[str, int]) -> str:
    """Return `reached`, or why not, for a host and a TCP port; port 0 looks the name up."""
    host, port = address
    try:
        if port:
            socket.create_connection((host, port), _SECONDS).close()
        else:
            socket.getaddrinfo(host, None)
    except OSError as error:
        return str(error)
    return "reached"


if __name__ == "__main__":
    addresses: list[tuple[str, int]] = json.loads(sys.argv[1])
    with ThreadPoolExecutor(len(addresses)) as pool:
        sys.stdout.write(json.dumps(list(pool.map(attempt, addresses))))
