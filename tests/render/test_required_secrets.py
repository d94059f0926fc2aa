"""The Secrets without which pods cannot start are known before an environment is installed."""

import pytest

from prefect_platform_cli.deploy import releases
from prefect_platform_cli.deploy.required_secrets import required_secrets
from prefect_platform_cli.kube import names
from tests.support.rendering import HELM_CHARTS, STORIES, find, objects

_SERVER = {"prefect-auth", "prefect-database", "prefect-encryption"}


def test_a_release_is_read_as_kubernetes_reads_it() -> None:
    workers = {"edge": {"name": "worker-edge", "key": "password"}}
    release = releases.Release(
        names.SERVER_RELEASE,
        names.SERVER_NAMESPACE,
        HELM_CHARTS / "prefect-server",
        values=(),
        settings={"auth": {"workers": workers}},
    )
    rendered = releases.render(release)
    pod = find(rendered, "Deployment", "api")["spec"]["template"]["spec"]
    modes = {each.get("projected", {}).get("defaultMode") for each in pod["volumes"]}

    assert rendered == objects(STORIES["server-defaults"].with_values({"auth.workers": workers}))
    assert modes == {None, 0o440}


@pytest.mark.parametrize(
    ("story", "expected"),
    [
        ("server-staging", {*_SERVER, "prefect-redis"}),
        ("server-production", {*_SERVER, "prefect-database-ca", "prefect-redis"}),
        ("worker-staging", set()),
        ("worker-production", set()),
    ],
)
def test_the_secrets_of_an_environment_are_found(story: str, expected: set[str]) -> None:
    assert required_secrets(objects(STORIES[story])) == expected


def test_a_secret_that_may_be_absent_or_that_the_release_brings_is_not_required() -> None:
    def variable(name: str, *, optional: bool) -> dict[str, object]:
        return {"valueFrom": {"secretKeyRef": {"name": name, "key": "a", "optional": optional}}}

    pod = {
        "imagePullSecrets": [{"name": "pull"}],
        "volumes": [
            {"secret": {"secretName": "mounted"}},
            {"secret": {"secretName": "absent", "optional": True}},
            {"projected": {"sources": [{"secret": {"name": "projected"}}, {"configMap": {}}]}},
            {"secret": {"secretName": "certificate"}},
        ],
        "initContainers": [{"env": [variable("first", optional=False)]}],
        "containers": [
            {
                "env": [variable("absent", optional=True), {"name": "plain", "value": "1"}],
                "envFrom": [{"secretRef": {"name": "all"}}, {"secretRef": {"name": "ours"}}],
            }
        ],
    }
    cron = {"jobTemplate": {"spec": {"template": {"spec": pod}}}}
    brought = [
        {"kind": "Secret", "metadata": {"name": "ours"}},
        {"kind": "Certificate", "spec": {"secretName": "certificate"}},
    ]

    found = required_secrets([{"kind": "CronJob", "spec": cron}, *brought])

    assert found == {"all", "first", "mounted", "projected", "pull"}
