"""The API serves TLS to clients that know its authority, and a renewed certificate at once."""

import asyncio
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from prefect.events.clients import PrefectEventsClient
from prefect.settings import PREFECT_API_SSL_CERT_FILE, temporary_settings

from prefect_platform.polling import wait_until
from tests.integration.server.mounted_secret import MountedSecret
from tests.support import servers
from tests.support.documented import block
from tests.support.requirements import require_packages

_HOST = "127.0.0.1"
_FLOW = """
from prefect import flow
from prefect.events import emit_event

@flow
def over_tls():
    emit_event("our-event", resource={"prefect.resource.id": "ours"})

over_tls()
"""
# Arguments with which each program ends soon after it has reached the API.
_PROGRAMS = {
    "worker.work_pool": ["--timeout=0", "absent"],
    "worker.helm_test": ["--worker=prefect-workers/a", "--jobs=flows-a", "absent"],
    "configuration": [
        *("--file=absent", "--deployments=absent", "--secrets=absent", "--templates=absent"),
        *("--release=prefect-workers/prefect-worker", "--checksum=absent"),
    ],
}


@dataclass(frozen=True)
class Served:
    """A server with TLS: the URL of its API, its authority, its certificate and its log."""

    url: str
    authority: Path
    certificate: MountedSecret
    log: Path

    def client_environment(self, home: Path, *, trusting: bool) -> dict[str, str]:
        """Return the environment of a client that finds the API, and may know its authority."""
        known = {"PREFECT_API_SSL_CERT_FILE": str(self.authority / "ca.crt")} if trusting else {}
        return servers.clean_environment(home, PREFECT_API_URL=self.url, **known)

    def verification(self) -> ssl.SSLContext:
        """Return what a client verifies the server with."""
        return ssl.create_default_context(cafile=self.authority / "ca.crt")

    def serial(self) -> int:
        """Return the serial number of the certificate that a new connection gets."""
        pem = ssl.get_server_certificate((_HOST, httpx.URL(self.url).port or 0))
        return x509.load_pem_x509_certificate(pem.encode()).serial_number

    def renew(self) -> int:
        """Renew the certificate; return its serial number."""
        certificate, key = issue(self.authority)
        self.certificate.update(tls_crt=certificate, tls_key=key)
        return x509.load_pem_x509_certificate(certificate).serial_number


def make(folder: Path, part: str) -> None:
    """Run the commands of the page in a folder, for the address of this test."""
    commands = block("operations/tls.md", f"### The {part}", "sh")
    here = commands.replace("DNS:prefect-server.prefect.svc.cluster.local", f"IP:{_HOST}")
    subprocess.run(["sh", "-ec", here], cwd=folder, capture_output=True, check=True)


def issue(authority: Path) -> tuple[bytes, bytes]:
    """Return a new certificate and its key."""
    make(authority, "certificate")
    return (authority / "tls.crt").read_bytes(), (authority / "tls.key").read_bytes()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    require_packages("openssl")
    folder, authority = (tmp_path_factory.mktemp(name) for name in ("server", "authority"))
    make(authority, "authority")
    certificate, key = issue(authority)
    mounted = MountedSecret(folder / "certificate", tls_crt=certificate, tls_key=key)
    with servers.prefect_server(
        folder,
        PREFECT_PLUGINS_ENABLED="true",
        PREFECT_PLUGINS_ALLOW="api-tls",
        API_TLS_CERTIFICATE_FILE=str(mounted.file("tls_crt")),
        API_TLS_KEY_FILE=str(mounted.file("tls_key")),
    ) as url:
        https = url.replace("http://", "https://")
        yield Served(https, authority, mounted, folder / "log")


def _has_event(served: Served, name: str) -> bool:
    """Return whether the server has stored an event with this name."""
    query = {"filter": {"event": {"name": [name]}}}
    answer = httpx.post(f"{served.url}/events/filter", json=query, verify=served.verification())
    return bool(answer.raise_for_status().json()["events"])


def _run(program: str, environment: dict[str, str]) -> str:
    """Run a program of a pod, which fails; return its log."""
    ended = subprocess.run(
        [sys.executable, "-m", f"prefect_platform.{program}", *_PROGRAMS[program]],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode != 0
    return ended.stderr


async def _connect(url: str) -> None:
    async with PrefectEventsClient(url, reconnection_attempts=0):
        pass


def test_a_flow_run_and_its_events_reach_an_api_whose_authority_is_known(
    served: Served, tmp_path: Path
) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", _FLOW],
        env=served.client_environment(tmp_path, trusting=True),
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr
    assert wait_until(lambda: _has_event(served, "our-event"), 60)


def test_a_client_that_does_not_know_the_authority_is_refused(served: Served) -> None:
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"{served.url}/health")
    with (
        temporary_settings({PREFECT_API_SSL_CERT_FILE: None}),
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        asyncio.run(_connect(served.url))


@pytest.mark.parametrize("program", _PROGRAMS)
def test_a_program_that_does_not_know_the_authority_says_so_at_once(
    served: Served, tmp_path: Path, program: str
) -> None:
    log = _run(program, served.client_environment(tmp_path, trusting=False))

    assert f"The certificate of {served.url} is not trusted: " in log
    assert "set api.certificateAuthority of prefect-worker" in log
    assert "Gave up waiting" not in log


def test_a_worker_that_knows_the_authority_waits_for_its_pool(
    served: Served, tmp_path: Path
) -> None:
    log = _run("worker.work_pool", served.client_environment(tmp_path, trusting=True))

    assert "Gave up waiting for the work pool absent" in log


def test_a_renewed_certificate_is_served_to_the_next_connection(served: Served) -> None:
    before = served.serial()
    with httpx.Client(verify=served.verification()) as client:
        client.get(f"{served.url}/health").raise_for_status()
        renewed = served.renew()

        assert served.serial() == renewed != before
        # A connection from before goes on.
        client.get(f"{served.url}/health").raise_for_status()


def test_a_certificate_without_its_key_is_reported_and_not_served(served: Served) -> None:
    before = served.serial()
    certificate, _ = issue(served.authority)
    _, another_key = issue(served.authority)
    served.certificate.update(tls_crt=certificate, tls_key=another_key)

    assert served.serial() == before
    assert "the previous one is still served: [X509: KEY_VALUES_MISMATCH]" in served.log.read_text()

    # The next renewal is served.
    renewed = served.renew()
    assert served.serial() == renewed
