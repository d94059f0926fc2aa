"""A request that failed is one sentence with the next step, and shows nothing that was sent."""

from typing import Any

import httpx
import pytest

from prefect_platform.api_failures import NextSteps, describe
from prefect_platform.errors import PlatformError
from tests.support.servers import free_ports

_URL = "http://prefect:4200/api"
_STEPS = NextSteps(away="start it", refused="take the right Secret", failed="read its log")


def told(status: int, **body: Any) -> PlatformError:  # noqa: ANN401 - whatever httpx takes
    """Return what is made of an answer."""
    request = httpx.Request("POST", f"{_URL}/variables/?name=open-sesame")
    with pytest.raises(PlatformError) as raised, describe(_URL, _STEPS):
        httpx.Response(status, request=request, **body).raise_for_status()
    return raised.value


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_is_told_from_a_failure(status: int) -> None:
    refused = told(status, json={"detail": "Unauthorized"})
    assert refused.message == f"{_URL} refused POST /api/variables/: {status} Unauthorized"
    assert refused.next_step == _STEPS.refused

    failed = told(503, text="upstream connect error")
    assert failed.message == (
        f"{_URL} answered POST /api/variables/ with 503 upstream connect error"
    )
    assert failed.next_step == _STEPS.failed


def test_an_api_that_is_away_is_named() -> None:
    url = f"http://127.0.0.1:{free_ports(1)[0]}/api"
    with pytest.raises(PlatformError) as raised, describe(url, _STEPS):
        httpx.get(f"{url}/health")
    assert raised.value.message.startswith(f"{url} does not answer: ConnectError ")
    assert raised.value.next_step == _STEPS.away


@pytest.mark.parametrize(
    ("answer", "said"),
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
def test_the_reason_of_the_server_is_there_and_what_was_sent_is_not(
    answer: object, said: str
) -> None:
    message = told(422, json=answer).message
    assert message.endswith(f" with {said}")
    assert "open-sesame" not in message
