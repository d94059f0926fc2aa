"""The API believes a token for what its pod is, and no other."""

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, tzinfo
from uuid import UUID

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from kubernetes_asyncio.client import ApiClient, Configuration
from kubernetes_asyncio.config import load_kube_config

from prefect_platform.errors import PlatformError
from prefect_platform.polling import wait_until
from prefect_platform.run_identity import token_reviews
from prefect_platform.run_identity.identity import Identity, Unauthorized, Unavailable
from prefect_platform.run_identity.token_reviews import TokenReviews
from tests.integration.run_identity.conftest import AUDIENCE, AUTH, Objects, World
from tests.support.servers import free_ports

Make = Callable[[World, Objects], str]
_RENEWED_BEFORE_EXPIRY = (
    720  # seconds: the kubelet renews a token of an hour after 80 percent of it
)
_POD_OF_RUN = ("flows", "flows", "run")  # namespace, account and pod


def _altered(world: World, ids: Objects) -> str:
    """Return a token of another run with the audience of this one, under the same signature."""
    header, _, signature = world.token(ids.foreign).split(".")
    return f"{header}.{world.token(ids.own).split('.')[1]}.{signature}"


def _unsigned(world: World, ids: Objects) -> str:
    header = base64.urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=")
    return f"{header}.{world.token(ids.own).split('.')[1]}."


def _of_another_cluster(world: World, ids: Objects) -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return world.resigned(world.token(ids.own), key)


def _expired(world: World, ids: Objects) -> str:
    return world.resigned(world.token(ids.own), exp=int(time.time()) - 1)


_REFUSED: dict[str, tuple[Make, str]] = {
    "of another server": (
        lambda world, ids: world.token(ids.own, audience="prefect-server.staging"),
        f"not for a client of {AUDIENCE}",
    ),
    "for Kubernetes": (
        lambda world, _: world.token_for("https://kubernetes.default.svc", "flows", "flows", "run"),
        f"not for a client of {AUDIENCE}",
    ),
    "for no run": (
        lambda world, _: world.token("all"),
        f"not for a client of {AUDIENCE}",
    ),
    "of a run that does not exist": (
        lambda world, _: world.token("00000000-0000-4000-8000-000000000000"),
        "does not exist, or is in no work pool",
    ),
    "of another pool's account": (
        lambda world, ids: world.token(ids.own, namespace="others"),
        "system:serviceaccount:others:flows may not act as flow run",
    ),
    "of a run's account, for a worker": (
        lambda world, _: world.token_for(f"{AUDIENCE}/work-pools/default", *_POD_OF_RUN),
        "system:serviceaccount:flows:flows may not act as the worker of the work pool default",
    ),
    "of a run's account, for the configuration": (
        lambda world, _: world.token_for(f"{AUDIENCE}/configuration", *_POD_OF_RUN),
        "system:serviceaccount:flows:flows may not act as the configuration",
    ),
    "of another part's account": (
        lambda world, _: world.token_for(
            f"{AUDIENCE}/configuration", "workers", "reaper", "reaper"
        ),
        "system:serviceaccount:workers:reaper may not act as the configuration",
    ),
    "of a worker, for another work pool": (
        lambda world, _: world.token_for(
            f"{AUDIENCE}/work-pools/other", "workers", "worker", "worker"
        ),
        "system:serviceaccount:workers:worker may not act as the worker of the work pool other",
    ),
    "for a part that does not exist": (
        lambda world, _: world.token_for(f"{AUDIENCE}/people", *_POD_OF_RUN),
        f"not for a client of {AUDIENCE}",
    ),
    "of an account without a pod": (
        lambda world, ids: world.token(ids.own, pod=None),
        "is not bound to a pod",
    ),
    "with another audience under its signature": (_altered, "Kubernetes refuses the token"),
    "of another cluster": (_of_another_cluster, "Kubernetes refuses the token"),
    "that has expired": (_expired, "has expired"),
    "without a signature": (_unsigned, "Kubernetes refuses the token"),
    "that is none": (lambda *_: "x", "the token is not one of a ServiceAccount"),
    "that is an auth string": (lambda *_: ":".join(AUTH), "not one of a ServiceAccount"),
    "with claims of another form": (
        lambda *_: f"x.{base64.urlsafe_b64encode(b'[]').decode()}.x",
        "the token is not one of a ServiceAccount",
    ),
}


def _get(world: World, token: str, path: str) -> httpx.Response:
    return httpx.get(f"{world.url}{path}", headers={"Authorization": f"Bearer {token}"}, timeout=60)


@pytest.mark.parametrize("which", _REFUSED)
def test_a_token_is_refused(which: str, world: World, ids: Objects) -> None:
    make, reason = _REFUSED[which]
    before = len(world.log.read_text())
    answer = _get(world, make(world, ids), f"/flow_runs/{ids.own}")

    assert answer.status_code == httpx.codes.UNAUTHORIZED
    assert answer.json() == {"exception_message": "Unauthorized"}
    assert reason in world.log.read_text()[before:]


def test_a_token_of_a_deleted_pod_is_refused(world: World, ids: Objects) -> None:
    world.create_pod("flows", "deleted")
    token = world.token(ids.own, pod="deleted")
    path = f"/flow_runs/{ids.own}"
    assert _get(world, token, path).is_success

    world.kubectl("delete", "pod", "deleted", "--namespace=flows", "--grace-period=0", "--force")
    refused = wait_until(
        lambda: _get(world, token, path).status_code == httpx.codes.UNAUTHORIZED, 60
    )
    assert refused


def test_a_token_that_was_valid_before_is_believed_while_kubernetes_is_away(
    world: World, ids: Objects
) -> None:
    known, unknown = world.token(ids.own), world.token(ids.foreign)
    (port,) = free_ports(1)  # nothing listens

    async def identify_both() -> Identity:
        async with _reviews(world) as (reviews, kubernetes):
            await reviews.identify(known)
            kubernetes.host = f"https://127.0.0.1:{port}"
            reviews._recent.clear()  # as after 30 seconds
            with pytest.raises(Unavailable):
                await reviews.identify(unknown)
            return await reviews.identify(known)

    assert asyncio.run(identify_both()).flow_run == UUID(ids.own)


@pytest.mark.parametrize("minutes", [-5, 5])
def test_tokens_are_believed_by_an_api_whose_clock_is_five_minutes_off(
    world: World, ids: Objects, minutes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    renewed_now = int(time.time()) + _RENEWED_BEFORE_EXPIRY
    token = world.resigned(world.token(ids.own), exp=renewed_now)
    _set_clock(monkeypatch, minutes)

    assert asyncio.run(_identify(world, token)).flow_run == UUID(ids.own)


def test_an_api_whose_clock_is_ahead_refuses_a_token_early_and_says_by_which_clock(
    world: World, ids: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = world.resigned(world.token(ids.own), exp=int(time.time()) + 240)
    _set_clock(monkeypatch, 5)

    with pytest.raises(Unauthorized, match=r"has expired, \d+ s ago by the clock of this pod"):
        asyncio.run(_identify(world, token))


def test_an_api_whose_clock_is_behind_refuses_a_token_that_has_expired_for_kubernetes(
    world: World, ids: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = world.resigned(world.token(ids.own), exp=int(time.time()) - 60)
    _set_clock(monkeypatch, -5)

    with pytest.raises(Unauthorized, match="Kubernetes refuses the token"):
        asyncio.run(_identify(world, token))


def test_tokens_are_believed_in_a_cluster_without_oidc_discovery(
    world: World, ids: Objects
) -> None:
    for path in ("/openid/v1/jwks", "/.well-known/openid-configuration"):
        with pytest.raises(PlatformError, match="Forbidden"):
            world.kubectl(
                *("get", f"--raw={path}", "--as=system:serviceaccount:prefect:server"),
                "--as-group=system:serviceaccounts",
            )

    assert _get(world, world.token(ids.own), f"/flow_runs/{ids.own}").is_success


async def _identify(world: World, token: str) -> Identity:
    async with _reviews(world) as (reviews, _):
        return await reviews.identify(token)


@asynccontextmanager
async def _reviews(world: World) -> AsyncIterator[tuple[TokenReviews, Configuration]]:
    """Yield the reviews of the real API server, and the configuration of their client."""

    async def default(_flow_run: UUID) -> str:
        return "default"

    kubernetes = Configuration()
    await load_kube_config(str(world.kubectl.kubeconfig), client_configuration=kubernetes)
    client = ApiClient(kubernetes)

    async def connect() -> ApiClient:
        return client

    async with client:
        yield TokenReviews(AUDIENCE, connect, default), kubernetes


def _set_clock(monkeypatch: pytest.MonkeyPatch, minutes: int) -> None:
    """Set the clock of the reviews ahead, or behind; the clock of Kubernetes stays right."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Clock":
            return cls.fromtimestamp(time.time() + 60 * minutes, tz)

    monkeypatch.setattr(token_reviews, "datetime", Clock)
