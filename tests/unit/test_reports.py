"""What the commands print about pods."""

from prefect_platform_cli.reports import pod_lines


def test_each_pod_has_a_line_with_its_phase() -> None:
    phases = {"api": "Running", "load-1": "Succeeded", "load-2": "Failed"}

    assert pod_lines(phases) == ["api Running", "load-1 Succeeded", "load-2 Failed"]


def test_many_pods_that_have_succeeded_are_counted_and_hide_no_other_pod() -> None:
    phases = {"a-waits": "Pending", **dict.fromkeys(map(str, range(200)), "Succeeded")}

    assert pod_lines({**phases, "b-failed": "Failed"}) == [
        "a-waits Pending",
        "b-failed Failed",
        "200 pods Succeeded",
    ]


def test_a_namespace_without_pods_says_so() -> None:
    assert pod_lines({}) == ["no pods"]
