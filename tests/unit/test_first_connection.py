"""With the plugin, a client waits for a server that is not up yet."""

import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tests.support.servers import free_ports

_ASK = """
from prefect.client.orchestration import get_client
with get_client(sync_client=True) as client:
    print(client.hello().status_code)
"""

# A server that drops a client's first connection for events: while it is opened, or before it has
# answered the authentication.
_EMIT = """
import asyncio, json, sys
from prefect.events.clients import PrefectEventsClient
from prefect.runner._event_emitter import EventEmitter
from websockets.asyncio.server import serve

drops = iter([sys.argv[1]])

async def opened(connection, request):
    # Before it connects, the client asks for the version, without an upgrade.
    connection.drop = next(drops, None) if request.path.endswith("/events/in") else None
    if connection.drop == "opening":
        connection.transport.close()

async def handle(connection):
    await connection.recv()
    if connection.drop == "authentication":
        connection.transport.abort()
    await connection.send(json.dumps({"type": "auth_success"}))
    await connection.wait_closed()

async def main():
    options = {"process_request": opened, "subprotocols": ["prefect"]}
    async with serve(handle, "127.0.0.1", 0, **options) as server:
        (listening,) = server.sockets
        client = PrefectEventsClient(f"http://127.0.0.1:{listening.getsockname()[1]}/api")
        emitter = EventEmitter(runner_name="test", client=None, get_events_client=lambda: client)
        async with emitter:
            print(type(emitter._events_client).__name__)

asyncio.run(main())
"""


def _ask(port: int, **variables: str) -> subprocess.Popen[str]:
    """Start a process that calls the API at `port` and retries for about a minute."""
    return subprocess.Popen(
        [sys.executable, "-c", _ASK],
        env={
            **os.environ,
            "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
            "PREFECT_CLIENT_MAX_RETRIES": "5",
            "PREFECT_CLIENT_RETRY_JITTER_FACTOR": "0",
            **variables,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class _Hello(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")


def test_without_the_plugin_a_client_fails_at_the_first_refused_connection() -> None:
    asking = _ask(*free_ports(1))
    _, errors = asking.communicate(timeout=60)

    assert asking.returncode == 1
    assert "ConnectError" in errors


def test_with_the_plugin_a_client_waits_for_a_server_that_starts_later() -> None:
    (port,) = free_ports(1)
    asking = _ask(port, PREFECT_PLUGINS_ENABLED="true", PREFECT_PLUGINS_ALLOW="first-connection")
    # Once a client without the plugin has failed, this client was refused at least once too.
    refused = _ask(port)
    refused.communicate(timeout=60)
    with HTTPServer(("127.0.0.1", port), _Hello) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        printed, errors = asking.communicate(timeout=120)
        server.shutdown()

    assert printed.strip() == "200", errors


def _emit(drop: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Let a runner of Prefect connect to a server that drops its first connection for events."""
    return subprocess.run(
        [sys.executable, "-c", _EMIT, drop],
        env={
            **os.environ,
            "PREFECT_API_URL": "http://127.0.0.1:1/api",  # whose version is asked for first
            "PREFECT_CLIENT_MAX_RETRIES": "0",
            **variables,
        },
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("drop", "error"),
    [("opening", "InvalidMessage"), ("authentication", "Unable to authenticate")],
)
def test_a_connection_for_events_that_is_dropped_ends_a_run_only_without_the_plugin(
    drop: str, error: str
) -> None:
    without = _emit(drop)
    plugin = _emit(drop, PREFECT_PLUGINS_ENABLED="true", PREFECT_PLUGINS_ALLOW="first-connection")

    assert without.returncode == 1
    assert error in without.stderr
    assert plugin.stdout.strip() == "PrefectEventsClient", plugin.stderr
