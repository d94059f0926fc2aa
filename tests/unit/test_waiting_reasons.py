"""What the words of Kubernetes say about a run that does not start."""

from typing import Any

import pytest

from prefect_platform import waiting_reasons
from prefect_platform.waiting_reasons import (
    ADMISSION,
    CONFIG_MISSING,
    IMAGE,
    IMAGE_MISSING,
    NODE,
    POD_REFUSED,
    QUOTA,
    STATES,
    UNSTARTABLE,
)

QUOTA_USED = "exceeded quota: jobs, requested: pods=1, used: pods=20, limited: pods=20"
NOT_SECURE = 'violates PodSecurity "restricted:latest": runAsNonRoot != true'
NO_NODE = "0/1 nodes are available: 1 Insufficient cpu."
PULLED = 'Back-off pulling image "of/one:1": ErrImagePull: '


def pending(waiting: str = "", message: str = "", **condition: str) -> dict[str, Any]:
    """Return the status of a pod that has not started."""
    state = {"waiting": {"reason": waiting, "message": message}}
    return {
        "phase": "Pending",
        "conditions": [{"type": "PodScheduled", "status": "True", **condition}],
        "containerStatuses": [{"name": "prefect-job", "state": state}] if waiting else [],
    }


@pytest.mark.parametrize(
    ("message", "state"),
    [
        (f'pods "a-x" is forbidden: {QUOTA_USED}', QUOTA),
        (f'pods "a-x" is forbidden: {NOT_SECURE}', POD_REFUSED),
        ('pods "a-x" is forbidden: maximum cpu usage per Container is 1', POD_REFUSED),
        ('pods "a-x" is forbidden: failed quota: jobs: must specify requests.cpu', POD_REFUSED),
        ('Pod "a-x" is invalid: spec.containers[0].image: Required value', POD_REFUSED),
        ('admission webhook "of.one" denied the request: no', POD_REFUSED),
        ('pods "a-x" is forbidden: status unknown for quota: jobs, resources: pods', ADMISSION),
        (
            'pods "a-x" is forbidden: unable to create new content in namespace flows because it '
            "is being terminated",
            ADMISSION,
        ),
        (
            'Internal error occurred: failed calling webhook "of.one": connection refused',
            ADMISSION,
        ),
    ],
)
def test_only_a_refusal_of_the_pod_itself_is_a_reason_that_stays(message: str, state: str) -> None:
    assert waiting_reasons.of_refusal("flows/a", f"Error creating: {message}").state == state


@pytest.mark.parametrize("preface", ["", "(combined from similar events): "])
def test_the_sentence_leaves_out_the_name_of_the_pod_which_each_attempt_changes(
    preface: str,
) -> None:
    message = f'{preface}Error creating: pods "a-b1c2d" is forbidden: {NOT_SECURE}'

    assert waiting_reasons.of_refusal("flows/a", message).sentence == (
        f"Kubernetes refuses to create a pod for the Job flows/a: {NOT_SECURE}"
    )


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (pending(status="False", reason="Unschedulable", message=NO_NODE), NODE),
        (
            pending("ErrImagePull", "failed to resolve: docker.io/of/one:1: not found"),
            IMAGE_MISSING,
        ),
        (pending("ImagePullBackOff", f"{PULLED}of/one:1: not found"), IMAGE_MISSING),
        (pending("ErrImagePull", "reading manifest 1: manifest unknown"), IMAGE_MISSING),
        (pending("InvalidImageName", "couldn't parse image name: no"), IMAGE_MISSING),
        (pending("ErrImageNeverPull", "not present with pull policy of Never"), IMAGE_MISSING),
        (pending("ImagePullBackOff", f"{PULLED}dial tcp: i/o timeout"), IMAGE),
        (pending("ErrImagePull", "pull access denied, repository does not exist or"), IMAGE),
        (pending("ErrImagePull", "unexpected status: 401 Unauthorized"), IMAGE),
        (pending("CreateContainerConfigError", 'secret "none" not found'), CONFIG_MISSING),
        (pending("CreateContainerConfigError", 'configmap "none" not found'), CONFIG_MISSING),
        (
            pending("CreateContainerConfigError", "couldn't find key k in Secret flows/one"),
            CONFIG_MISSING,
        ),
        (pending("CreateContainerConfigError", "failed to sync secret cache"), None),
        (pending("ContainerCreating"), None),
        (pending(), None),
        ({"phase": "Pending"}, None),
        ({**pending("ErrImagePull", "of/one:1: not found"), "phase": "Running"}, None),
    ],
)
def test_the_status_of_a_pod_says_what_it_waits_for(
    status: dict[str, Any], state: str | None
) -> None:
    found = waiting_reasons.of_pod("flows/a-x", status)

    assert (found and found.state) == state


def test_no_lack_of_room_is_a_reason_to_end_a_run() -> None:
    assert set(STATES) - set(UNSTARTABLE) == {QUOTA, ADMISSION, NODE, IMAGE}


def test_the_words_of_a_registry_cannot_control_a_terminal() -> None:
    hostile = "\x1b[2J of/one:1: not found\nerror: all is well" + 5000 * "x"
    found = waiting_reasons.of_pod("flows/a-x", pending("ErrImagePull", hostile))

    assert found is not None
    assert found.sentence.isprintable()
    assert len(found.sentence) < 1200
