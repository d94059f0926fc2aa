"""Try to connect to addresses and print each outcome; a probe pod runs this as standard input."""

import json
import socket
import sys
from concurrent.futures import ThreadPoolExecutor

_SECONDS = 3  # policies drop packets, so a denial is a timeout


def attempt(address: tuple[str, int]) -> str:
    """Return `reached` for a host and a TCP port, or the error; port 0 only resolves the name."""
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
