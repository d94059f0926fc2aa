"""A change to the objects of an environment is shown before it is accepted."""

import pytest

from tests.render.golden import COMMAND, accepted, differences, rendered


def test_rendered_objects_match_the_golden_files() -> None:
    found = rendered()
    changes = [
        f"{story}:\n{change}"
        for story, before in accepted().items()
        for change in differences(before, found.get(story, {}))
    ]
    if changes:
        pytest.fail("\n\n".join([*changes, f"To accept the changes: {COMMAND}"]), pytrace=False)


def test_every_environment_has_a_golden_file() -> None:
    assert set(rendered()) == set(accepted()), f"To accept the rendered objects: {COMMAND}"


def test_a_difference_shows_the_object_and_the_line() -> None:
    before = {"Service/a/b": "port: 1\ntype: x\n", "Job/a/gone": "kind: Job\n"}
    after = {"Service/a/b": "port: 2\ntype: x\n", "Secret/a/new": "kind: Secret\n"}

    assert list(differences(before, after)) == [
        "--- accepted/Job/a/gone\n+++ /dev/null\n@@ -1 +0,0 @@\n-kind: Job",
        "--- /dev/null\n+++ rendered/Secret/a/new\n@@ -0,0 +1 @@\n+kind: Secret",
        "--- accepted/Service/a/b\n+++ rendered/Service/a/b\n"
        "@@ -1,2 +1,2 @@\n-port: 1\n+port: 2\n type: x",
    ]
    assert list(differences(after, after)) == []
