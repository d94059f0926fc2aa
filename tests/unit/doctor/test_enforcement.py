"""The check of the network runs beside other work, and decides before the work that needs it."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from prefect_platform.errors import PlatformError
from prefect_platform_cli.doctor import enforcement
from prefect_platform_cli.kube.kubectl import Kubectl

_KUBECTL = Kubectl(Path("kubeconfig"))


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], bool]], None]:
    """Return a function that replaces the test of the network by another."""

    def replace(check: Callable[[], bool]) -> None:
        monkeypatch.setattr(enforcement, "enforces_policies", lambda *_: check())

    return replace


def test_other_work_goes_on_while_the_network_is_checked(
    network: Callable[[Callable[[], bool]], None],
) -> None:
    done = threading.Event()
    network(lambda: done.wait(timeout=60))

    with enforcement.enforcement_check(_KUBECTL, "image", accept_unenforced=False) as require:
        done.set()
        require()


@pytest.mark.parametrize("accept", [False, True])
def test_a_network_without_enforcement_is_refused_unless_it_is_accepted(
    network: Callable[[Callable[[], bool]], None],
    capsys: pytest.CaptureFixture[str],
    *,
    accept: bool,
) -> None:
    network(lambda: False)

    with enforcement.enforcement_check(_KUBECTL, "image", accept_unenforced=accept) as require:
        if accept:
            require()
        else:
            with pytest.raises(PlatformError, match="does not enforce NetworkPolicies"):
                require()

    assert ("every pod can connect" in capsys.readouterr().err) is accept


def test_a_check_that_fails_is_reported_where_its_outcome_is_needed(
    network: Callable[[Callable[[], bool]], None],
) -> None:
    def fail() -> bool:
        raise PlatformError("a pod is refused", next_step="make status")

    network(fail)

    with (
        enforcement.enforcement_check(_KUBECTL, "image", accept_unenforced=True) as require,
        pytest.raises(PlatformError, match="a pod is refused"),
    ):
        require()
