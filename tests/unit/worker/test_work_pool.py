"""A worker waits until its work pool exists, or says what is wrong."""

import asyncio
import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import prefect
import pytest

from prefect_platform.api_authentication import PodToken
from prefect_platform.errors import PlatformError
from prefect_platform.worker.work_pool import await_work_pool

_AUTH = httpx.BasicAuth("admin", "p:a%ss")
_MAJOR, _MINOR = map(int, prefect.__version__.split(".")[:2])
_Asked = tuple[str, str]


@contextmanager
def api(*answers: int, version: object = prefect.__version__) -> Iterator[tuple[str, list[_Asked]]]:
    """Serve an API that answers requests for the pool with these status codes in turn.

    The last status code repeats. The version is served unless the next code is an error other than
    404. Yields the URL and the requests that used up a status code.
    """
    asked: list[_Asked] = []
    remaining = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/api/admin/version" and remaining[0] in (200, 404):
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps(version).encode())
                return
            asked.append((self.path, self.headers.get("Authorization", "")))
            self.send_response(remaining.pop(0) if len(remaining) > 1 else remaining[0])
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/api", asked
        server.shutdown()


def wait(url: str, timeout: float, auth: httpx.Auth = _AUTH) -> None:
    asyncio.run(await_work_pool("default", api_url=url, auth=auth, timeout=timeout))


def test_the_worker_starts_when_the_pool_appears() -> None:
    with api(503, 404, 200) as (url, asked):
        wait(url, timeout=60)
    credentials = f"Basic {base64.b64encode(b'admin:p:a%ss').decode()}"
    paths = ["/api/admin/version", *["/api/work_pools/default"] * 2]
    assert asked == [(path, credentials) for path in paths]


@pytest.mark.parametrize("version", [f"{_MAJOR}.{_MINOR - 1}.99", f"{_MAJOR - 1}.99.0"])
def test_a_worker_does_not_start_with_an_older_server(version: str) -> None:
    with api(200, version=version) as (url, asked), pytest.raises(PlatformError) as refused:
        wait(url, timeout=0)
    assert f"it runs Prefect {version}, which is older than this worker's" in str(refused.value)
    assert "upgrade an older server before its workers" in refused.value.next_step
    assert asked == []


@pytest.mark.parametrize(
    "version", [f"{_MAJOR}.{_MINOR}.0", f"{_MAJOR}.{_MINOR + 1}.2", f"{_MAJOR + 1}.0.0"]
)
def test_a_worker_starts_with_a_server_of_its_minor_release_or_a_newer_one(version: str) -> None:
    with api(200, version=version) as (url, _):
        wait(url, timeout=0)


@pytest.mark.parametrize(
    ("status", "reason"),
    [(404, "the API does not know it"), (503, "the API answered 503")],
)
def test_the_wait_times_out_with_the_reason(status: int, reason: str) -> None:
    with api(status) as (url, _), pytest.raises(PlatformError, match=reason):
        wait(url, timeout=0)


@pytest.mark.parametrize("version", ["<!doctype html>", {"detail": "Not Found"}])
def test_an_address_that_is_not_an_api_is_named(version: object) -> None:
    with api(200, version=version) as (url, asked), pytest.raises(PlatformError) as refused:
        wait(url, timeout=0)
    assert f"the API {url}" in str(refused.value)
    assert "not a Prefect API" in str(refused.value)
    assert asked == []


def test_a_missing_pool_is_reported_with_the_ways_to_create_it() -> None:
    with api(404) as (url, _), pytest.raises(PlatformError) as refused:
        wait(url, timeout=0)
    for way in ("configuration.platform", "docs/operations/configuration.md", "`helm get notes`"):
        assert way in refused.value.next_step


def test_an_unreachable_api_is_named() -> None:
    with pytest.raises(PlatformError, match=r"http://127\.0\.0\.1:1/api does not answer"):
        wait("http://127.0.0.1:1/api", timeout=0)


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_auth_string_fails_without_waiting(status: int) -> None:
    with api(status) as (url, _), pytest.raises(PlatformError, match="refused the auth string"):
        wait(url, timeout=600)


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_token_fails_without_waiting(status: int, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("of-the-pod\n")
    with api(status) as (url, asked), pytest.raises(PlatformError, match="refused the token"):
        wait(url, timeout=600, auth=PodToken(tmp_path / "token"))
    assert {credentials for _, credentials in asked} == {"Bearer of-the-pod"}
