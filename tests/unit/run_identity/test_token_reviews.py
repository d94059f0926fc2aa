"""A token that cannot be reviewed is neither believed nor refused, and the cause is named.

tests/integration/run_identity reviews tokens with a real Kubernetes API server.
"""

import asyncio
import base64
import json
import time
from uuid import UUID, uuid4

import pytest
from kubernetes_asyncio.client import ApiClient, Configuration

from prefect_platform.run_identity.identity import Unavailable
from prefect_platform.run_identity.token_reviews import TokenReviews
from tests.support.servers import free_ports


async def _default(_flow_run: UUID) -> str:
    return "default"


def _token() -> str:
    claims = {"aud": [f"server/flow-runs/{uuid4()}"], "exp": int(time.time()) + 600}
    return f"x.{base64.urlsafe_b64encode(json.dumps(claims).encode()).decode()}.x"


def test_without_an_answer_of_kubernetes_the_client_may_try_again() -> None:
    (port,) = free_ports(1)  # nothing listens

    async def identify() -> None:
        client = ApiClient(Configuration(host=f"http://127.0.0.1:{port}"))
        async with client:

            async def connect() -> ApiClient:
                return client

            await TokenReviews("server", connect, _default).identify(_token())

    with pytest.raises(Unavailable, match=f"Kubernetes cannot review tokens: .*{port}"):
        asyncio.run(identify())


def test_a_cause_without_a_text_is_named_by_its_type() -> None:
    async def connect() -> ApiClient:
        raise TimeoutError

    with pytest.raises(Unavailable, match="cannot review tokens: TimeoutError"):
        asyncio.run(TokenReviews("server", connect, _default).identify(_token()))
