"""A failed request is reported in one sentence with the next step, without anything it sent."""

from typing import Any

import httpx
import pytest

from prefect_platform.api_failures import NextSteps, describe
from prefect_platform.errors import PlatformError
from tests.support.servers import free_ports

_URL = "http://prefect:4200/api"
_STEPS = NextSteps(away="start it", refused="take the right Secret", failed="read its log")


def error_for(status: int, **body: Any) -> PlatformError:  # noqa: ANN401 - passed to httpx
    """Return the error that a response with this status raises."""
    request = httpx.Request("POST", f"{_URL}/variables/?name=open-sesame")
    with pytest.raises(PlatformError) as raised, describe(_URL, _STEPS):
        httpx.Response(status, request=request, **body).raise_for_status()
    return raised.value


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_is_distinguished_from_a_failure(status: int) -> None:
    refused = error_for(status, json={"detail": "Unauthorized"})
    assert refused.message == f"{_URL} refused POST /api/variables/: {status} Unauthorized"
    assert refused.next_step == _STEPS.refused

    failed = error_for(503, text="upstream connect error")
    assert failed.message == (
        f"{_URL} answered POST /api/variables/ with 503 upstream connect error"
    )
    assert failed.next_step == _STEPS.failed


def test_an_unreachable_api_is_named() -> None:
    url = f"http://127.0.0.1:{free_ports(1)[0]}/api"
    with pytest.raises(PlatformError) as raised, describe(url, _STEPS):
        httpx.get(f"{url}/health")
    assert raised.value.message.startswith(f"{url} does not answer: ConnectError ")
    assert raised.value.next_step == _STEPS.away


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (
            {
                "exception_message": "Invalid request received.",
                "exception_detail": [
                    {"loc": ["body", "value"], "msg": "too long", "input": "open-sesame"}
                ],
                "request_body": {"value": "open-sesame"},
            },
            "422 ['body', 'value']: too long",
        ),
        ({"detail": ["no", "never"]}, "422 no; never"),
        (["no"], "422 no"),
    ],
)
def test_the_servers_reason_is_shown_but_nothing_that_was_sent(answer: object, reason: str) -> None:
    message = error_for(422, json=answer).message
    assert message.endswith(f" with {reason}")
    assert "open-sesame" not in message
