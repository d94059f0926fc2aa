"""Ask Kubernetes whose token it is: that of a flow run, or of a part of the platform.

Each pod has a token of its ServiceAccount that the kubelet requests, renews and binds to the pod,
so it is worthless when the pod is gone. Its audience names the server and the flow run or the part,
and no other service accepts it. Kubernetes' RBAC says which ServiceAccounts may be what, by verbs
on paths that are URLs of no resource: `run` and `work` on that of a work pool, `use` on that of
another part.
"""

import base64
import binascii
import hashlib
import json
from asyncio import Semaphore
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from aiohttp import ClientError
from cachetools import TTLCache
from kubernetes_asyncio.client import (
    ApiClient,
    AuthenticationV1Api,
    AuthorizationV1Api,
    V1NonResourceAttributes,
    V1SubjectAccessReview,
    V1SubjectAccessReviewSpec,
    V1TokenReview,
    V1TokenReviewSpec,
)
from kubernetes_asyncio.client.exceptions import ApiException
from kubernetes_asyncio.config import ConfigException
from prefect.logging import get_logger

from prefect_platform.run_identity.identity import (
    OF_A_RUN,
    Identity,
    Part,
    Unauthorized,
    Unavailable,
)

_OF_A_WORKER = "/work-pools/"
_PARTS = {f"/{part}": part for part in (Part.REAPER, Part.CONFIGURATION, Part.RELEASE_TEST)}
_VERBS = {Part.RUN: "run", Part.WORKER: "work"}
# How long a review is believed: a deleted pod's token is refused at the latest after this time.
_REVIEWED_SECONDS = 30.0
_REFUSED_SECONDS = 10.0
_TOKENS = 10_000
_CONCURRENT_REVIEWS = 20
_TIMEOUT_SECONDS = 5.0
_POD = "authentication.kubernetes.io/pod-name"
_SERVICE_ACCOUNT = "system:serviceaccount:"

_logger = get_logger("server.run_identity")


class TokenReviews:
    """Reviews of tokens, which are remembered for some seconds.

    `audience` names this server in tokens, `connect` opens a client of Kubernetes, and `pool_of`
    returns the work pool of a flow run, or None.
    """

    def __init__(
        self,
        audience: str,
        connect: Callable[[], Awaitable[ApiClient]],
        pool_of: Callable[[UUID], Awaitable[str | None]],
    ) -> None:
        self._audience = audience
        self._connect = connect
        self._api: ApiClient | None = None
        self._pool_of = pool_of
        self._recent: Any = TTLCache(_TOKENS, _REVIEWED_SECONDS)
        self._refused: Any = TTLCache(_TOKENS, _REFUSED_SECONDS)
        # Identities by token, for the minutes in which Kubernetes does not answer.
        self._last: Any = TTLCache(_TOKENS, 3600.0)
        # Tokens that were valid before do not wait behind a flood of others.
        self._first_reviews = Semaphore(_CONCURRENT_REVIEWS)
        self._later_reviews = Semaphore(_CONCURRENT_REVIEWS)

    async def identify(self, token: str) -> Identity:
        """Return the identity that the token proves; raises Unauthorized or Unavailable."""
        key = hashlib.sha256(token.encode(errors="surrogatepass")).digest()
        known = self._recent.get(key)
        if known is None:
            if reason := self._refused.get(key):
                raise Unauthorized(reason)
            async with self._later_reviews if key in self._last else self._first_reviews:
                known = self._recent.get(key) or await self._reviewed(token, key)
        identity: Identity = known
        _raise_if_expired(identity)
        return identity

    async def _reviewed(self, token: str, key: bytes) -> Identity:
        try:
            identity = await self._review(token)
        except Unauthorized as error:
            self._refused[key] = str(error)
            self._last.pop(key, None)
            raise
        except (ApiException, ConfigException, ClientError, TimeoutError, OSError) as error:
            cause = getattr(error, "reason", None) or str(error) or type(error).__name__
            if last := self._last.get(key):
                _logger.warning(
                    "Kubernetes cannot review the token of %s, which was valid before: %s",
                    last.who,
                    cause,
                )
                self._recent[key] = last
                known: Identity = last
                return known
            raise Unavailable(f"Kubernetes cannot review tokens: {cause}") from error
        self._recent[key] = self._last[key] = identity
        return identity

    async def _review(self, token: str) -> Identity:
        audience, claimed = self._claims(token)
        _raise_if_expired(claimed)
        api = self._api = self._api or await self._connect()
        reviewed = await AuthenticationV1Api(api).create_token_review(
            V1TokenReview(spec=V1TokenReviewSpec(token=token, audiences=[audience])),
            _request_timeout=_TIMEOUT_SECONDS,
        )
        status = reviewed.status
        if not status.authenticated or audience not in (status.audiences or ()):
            raise Unauthorized(f"Kubernetes refuses the token: {status.error or 'no reason given'}")
        user = status.user
        if not user.username.startswith(_SERVICE_ACCOUNT) or _POD not in (user.extra or {}):
            raise Unauthorized(f"the token of {user.username} is not bound to a pod")
        if claimed.flow_run is not None:
            pool = await self._pool_of(claimed.flow_run)
            if pool is None:
                raise Unauthorized(f"{claimed.who} does not exist, or is in no work pool")
            claimed = replace(claimed, pool=pool)
        at = f"work-pools/{claimed.pool}" if claimed.pool else claimed.part
        path, verb = f"/{self._audience}/{at}", _VERBS.get(claimed.part, "use")
        allowed = await AuthorizationV1Api(api).create_subject_access_review(
            V1SubjectAccessReview(
                spec=V1SubjectAccessReviewSpec(
                    user=user.username,
                    groups=user.groups,
                    uid=user.uid,
                    extra=user.extra,
                    non_resource_attributes=V1NonResourceAttributes(path=path, verb=verb),
                )
            ),
            _request_timeout=_TIMEOUT_SECONDS,
        )
        if not allowed.status.allowed:
            raise Unauthorized(
                f"{user.username} may not act as {claimed.who}: "
                f"`kubectl auth can-i {verb} {path} --as={user.username}` answers no"
            )
        return claimed

    def _claims(self, token: str) -> tuple[str, Identity]:
        """Return the audience of a token that Kubernetes has not reviewed yet, and what it says."""
        try:
            payload = token.split(".")[1]
            claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
            audiences = claims["aud"]
            expires = datetime.fromtimestamp(claims["exp"], UTC)
        except (
            *(IndexError, KeyError, TypeError, ValueError, OverflowError, OSError),
            *(binascii.Error, RecursionError),
        ):
            raise Unauthorized("the token is not one of a ServiceAccount") from None
        for audience in audiences if isinstance(audiences, list) else ():
            if isinstance(audience, str) and audience.startswith(f"{self._audience}/"):
                claimed = _claimed(audience.removeprefix(self._audience), expires)
                if claimed is not None:
                    return audience, claimed
        raise Unauthorized(f"the token is for {audiences}, not for a client of {self._audience}")


def _raise_if_expired(identity: Identity) -> None:
    late = (datetime.now(UTC) - identity.expires).total_seconds()
    if late >= 0:
        raise Unauthorized(
            f"the token of {identity.who} has expired, {late:.0f} s ago by the clock of this pod"
        )


def _claimed(name: str, expires: datetime) -> Identity | None:
    """Return the identity that the part of an audience behind the server's name claims."""
    if name.startswith(OF_A_RUN):
        try:
            return Identity(Part.RUN, expires, flow_run=UUID(name.removeprefix(OF_A_RUN)))
        except ValueError:
            return None
    if pool := name.removeprefix(_OF_A_WORKER) if name.startswith(_OF_A_WORKER) else "":
        return Identity(Part.WORKER, expires, pool=pool)
    return Identity(_PARTS[name], expires) if name in _PARTS else None
