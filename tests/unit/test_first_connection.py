"""With the plugin, a client waits for a server that is not up yet."""

import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from tests.support.servers import free_ports

_ASK = """
from prefect.client.orchestration import get_client
with get_client(sync_client=True) as client:
    print(client.hello().status_code)
"""

# A server that drops a client's first connection for events: while it is opened, before it has
# answered the authentication, or with the answer to try again later.
_EMIT = """
import asyncio, json, sys
from prefect.events.clients import PrefectEventsClient
from prefect.runner._event_emitter import EventEmitter
from websockets.asyncio.server import serve

async def opened(connection, request):
    # Before it connects, the client asks for the version, without an upgrade.
    connection.drop = drops.pop() if drops and request.path.endswith("/events/in") else None
    if connection.drop == "opening":
        connection.transport.close()

async def handle(connection):
    await connection.recv()
    if connection.drop == "authentication":
        connection.transport.abort()
    if connection.drop == "later":
        await connection.close(1013, "Unauthorized")
        return
    await connection.send(json.dumps({"type": "auth_success"}))
    await connection.wait_closed()

async def connect():
    options = {"process_request": opened, "subprotocols": ["prefect"]}
    async with serve(handle, "127.0.0.1", 0, **options) as server:
        (listening,) = server.sockets
        client = PrefectEventsClient(f"http://127.0.0.1:{listening.getsockname()[1]}/api")
        emitter = EventEmitter(runner_name="test", client=None, get_events_client=lambda: client)
        async with emitter:
            return type(emitter._events_client).__name__

for drop in sys.argv[1:]:
    drops = [drop]
    try:
        print(asyncio.run(connect()))
    except Exception as error:
        print(repr(error))
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


def test_only_with_the_plugin_a_client_waits_for_a_server_that_starts_later() -> None:
    (port,) = free_ports(1)
    asking = _ask(port, PREFECT_PLUGINS_ENABLED="true", PREFECT_PLUGINS_ALLOW="first-connection")
    refused = _ask(port)
    _, told = refused.communicate(timeout=60)

    assert refused.returncode == 1
    assert "ConnectError" in told
    # Since this client has failed, the one with the plugin was refused at least once too.
    with HTTPServer(("127.0.0.1", port), _Hello) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        printed, errors = asking.communicate(timeout=120)
        server.shutdown()

    assert printed.strip() == "200", errors


def _emit(**variables: str) -> list[str]:
    """Let a runner of Prefect connect to a server that drops its first connection for events.

    Returns how that ends when the connection is opened, when it is authenticated, and when the
    server asks to try again later.
    """
    ended = subprocess.run(
        [sys.executable, "-c", _EMIT, "opening", "authentication", "later"],
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
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


def test_a_connection_for_events_that_is_dropped_ends_a_run_only_without_the_plugin() -> None:
    opening, authentication, later = _emit()
    plugin = _emit(PREFECT_PLUGINS_ENABLED="true", PREFECT_PLUGINS_ALLOW="first-connection")

    assert "InvalidMessage" in opening
    assert "Unable to authenticate" in authentication
    assert "Unable to authenticate" in later
    assert plugin == ["PrefectEventsClient"] * 3
