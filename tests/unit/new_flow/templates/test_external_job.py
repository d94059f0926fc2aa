import time
from collections.abc import Iterator

import pytest

from prefect_platform_cli.new_flow.templates import external_job
from tests.support.http_service import serving


class Service:
    """Jobs by their paths, each with its state."""

    def __init__(self) -> None:
        self.jobs: dict[str, str] = {}
        self.address = ""

    def answer(self, method: str, path: str) -> dict[str, str]:
        if method == "PUT":
            self.jobs.setdefault(path, "running")
        if method == "DELETE":
            self.jobs[path] = "cancelled"
        return {"state": self.jobs[path]}


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    with serving(service.answer) as service.address:
        yield service


def test_a_job_that_is_submitted_again_is_started_once(service: Service) -> None:
    url = external_job.job_url(service.address, "one")
    external_job.submit.fn(url, {"size": 1})
    service.jobs["/jobs/one"] = "succeeded"
    external_job.submit.fn(url, {"size": 1})

    assert service.jobs == {"/jobs/one": "succeeded"}


def test_a_job_that_has_ended_is_returned(service: Service) -> None:
    service.jobs["/jobs/one"] = "failed"
    url = external_job.job_url(service.address, "one")

    ended = external_job.wait.fn(url, time.time() + 60)

    assert ended == {"state": "failed"}


def test_a_job_that_does_not_end_is_not_waited_for_any_longer(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(external_job, "POLL_SECONDS", 0.01)
    service.jobs["/jobs/one"] = "running"
    url = external_job.job_url(service.address, "one")

    with pytest.raises(TimeoutError, match="has not ended in time"):
        external_job.wait.fn(url, time.time() + 0.1)
