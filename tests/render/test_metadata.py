"""Names, labels and annotations that values set for all objects of a chart at once."""

import pytest

from tests.support.rendering import STORIES, objects, pod_of

_PART_OF = "app.kubernetes.io/part-of"
each_chart = pytest.mark.parametrize("story", ["server-ha", "worker-local"])


@each_chart
def test_every_object_has_the_common_labels_and_annotations(story: str) -> None:
    common = {"example.org/team": "data"}
    changed = STORIES[story].with_values(
        {"commonLabels": {**common, _PART_OF: "another"}, "commonAnnotations": common}
    )
    for item in objects(changed):
        metadata = item["metadata"]
        assert common.items() <= metadata["labels"].items(), item["kind"]
        assert common.items() <= metadata["annotations"].items(), item["kind"]
        assert metadata["labels"][_PART_OF] == "prefect-platform"


@each_chart
def test_a_common_label_changes_no_job_and_no_pod_of_a_stateful_set(story: str) -> None:
    changed = STORIES[story].with_values({"commonLabels": {"example.org/team": "data"}})
    for before, after in zip(objects(STORIES[story]), objects(changed), strict=True):
        if before["kind"] in {"StatefulSet", "Job"}:
            assert after["metadata"]["name"] == before["metadata"]["name"]
            assert pod_of(after) == pod_of(before)


@each_chart
def test_name_overrides_set_the_prefix_of_object_names(story: str) -> None:
    chart = STORIES[story].chart
    for values, wanted in (
        ({"fullnameOverride": "ours"}, "ours"),
        ({"nameOverride": "ours"}, f"{chart}-ours"),
    ):
        deployments = [
            item["metadata"]["name"]
            for item in objects(STORIES[story].with_values(values))
            if item["kind"] == "Deployment"
        ]
        assert deployments
        assert all(name.startswith(wanted) for name in deployments), deployments
