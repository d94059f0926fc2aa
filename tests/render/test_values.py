"""Every key of the values has an effect; unknown keys and unsafe combinations are refused."""

import json
from collections.abc import Iterator
from typing import Any

import prefect
import pytest
import yaml

from tests.support.rendering import HELM_CHARTS, STORIES, Story, template

_DIGEST = f"sha256:{'0' * 64}"
_OTHER_STRINGS = {
    "storageBlock": "s3-bucket/other",
    "pullPolicy": "Always",
    "mode": "external",
    "logLevel": "DEBUG",
    "logFormat": "json",
    "publicUrl": "https://another.example.org/prefect",
    "url": "https://prefect.example.org/api",
    "digest": _DIGEST,
    "revision": "0123456789ab",
    **dict.fromkeys(["cpu", "memory", "size", "tmpSizeLimit"], "7Gi"),
    **dict.fromkeys(["flowRuns", "unfinishedRuns", "default", "logs", "artifacts"], "89d"),
    "heartbeat": "6d",
    "failed": "23h",
}
_PEERS: list[dict[str, object]] = [{"podSelector": {"matchLabels": {"another": "1"}}}]
_PORTS = [{"port": 7777}]
_PRODUCTION: dict[str, object] = {
    "profile": "production",
    "global.imageDigests": dict.fromkeys(("platform", "postgres", "redis"), _DIGEST),
    "notifications.hosts": [],
    "networkPolicies.kubernetesApi.to": _PEERS,
}
_OTHER_ITEMS = {
    "auth.workers": {"edge": {"name": "another", "key": "another"}},
    "mode": "single",
    "profile": "production",
    "redis.mode": "external",
    "pools.default": {"worker": {"replicas": 7}},
    "priorityClass.preemptionPolicy": "PreemptLowerPriority",
    "api.certificateAuthority.kind": "Secret",
    "worker.limit": 7,
    "reaper.endSilentSeconds": 7,
    "jobs.template": {"variables": {"description": "another"}},
    "database.external.tls.mode": "verify-ca",
    "service.type": "LoadBalancer",
    "httpRoute.hostnames": ["another.example.org"],
    "worker.workQueues": ["urgent"],
    "configuration.secrets": ["another"],
    "configuration.schedule": "0 * * * *",
    "migrations.mayLose": ["another"],
    "notifications.hosts": ["hooks.example.org"],
    "retention.jobs.succeeded": "25h",
    "retention.objects.results": "1d",
    "ui.imageOrigins": ["https://images.example.org"],
    "extraObjects": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "another"}}],
    "global.imageDigests": {"platform": _DIGEST, "flows": _DIGEST},
    "global.imagePullSecrets": [{"name": "another"}],
    "jobs.maximum": {"cpu": "7"},
    "jobs.allowedImages": ["example.org/another"],
    "networkPolicies.apiClients": _PEERS,
    "networkPolicies.apiProxies": _PEERS,
    "networkPolicies.apiEgress": [{"to": _PEERS}],
    "networkPolicies.databaseOperator": _PEERS,
    "networkPolicies.externalDatabase.ports": _PORTS,
    "networkPolicies.externalRedis.ports": _PORTS,
    "networkPolicies.jobsEgress": [{"to": _PEERS}],
    "networkPolicies.api.to": _PEERS,
    "networkPolicies.api.ports": _PORTS,
    "networkPolicies.kubernetesApi.ports": _PORTS,
}


def leaves(values: dict[str, Any], parents: tuple[str, ...] = ()) -> Iterator[tuple[str, object]]:
    """Yield each key that has a value, with its default."""
    for key, value in values.items():
        path = (*parents, key.replace(".", r"\."))
        if isinstance(value, dict) and value:
            yield from leaves(value, path)
        else:
            yield ".".join(path), value


def another(key: str, value: object) -> object:
    """Return a valid value other than the default."""
    if key in _OTHER_ITEMS:
        return _OTHER_ITEMS[key]
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case str():
            return _OTHER_STRINGS.get(key.rpartition(".")[2], f"{value}x")
        case list():
            return [{"name": "ANOTHER", "value": "1"}]
        case _:
            return {"another": "1"}


# No chart reads these keys of the retention file: docs/operations/retention.md says what does.
_READ_ELSEWHERE = {"retention.backups"}
# Both charts read the retention file, and have the same defaults for it.
_SHARED = "retention"
_CHARTS = ("prefect-server", "prefect-worker")
_LEAVES = [
    (chart, key, default)
    for chart in _CHARTS
    for key, default in leaves(
        yaml.load((HELM_CHARTS / chart / "values.yaml").read_text(), Loader=yaml.CSafeLoader)
    )
    if key not in _READ_ELSEWHERE
    if not (chart == "prefect-worker" and key.startswith(f"{_SHARED}."))
]


# A guard refuses these values beside those of other keys, or they hide the value of another key.
_ALONE = {
    *("auth.secret.name", "auth.workers", "fullnameOverride", "global.imageRegistry"),
    *("api.certificateAuthority.name", "api.tls.secret.name", "httpRoute.hostnames"),
    *("api.tls.certManager.issuerRef.name", "ingress.host"),
    *("database.cloudnativePg.parameters.max_connections", "database.passwordSecret.key"),
    *("database.embedded.parameters.max_connections", "database.external.host"),
    *("database.external.connectionUrlSecret.name", "database.external.tls.caSecret.name"),
    *("database.external.tls.clientCertificateSecret.name", "redis.external.urlSecret.name"),
    *("jobs.heartbeatSeconds", "jobs.namespace", "migrations.mayLose", "publicUrl"),
}
# What stands for another value in `_OTHER_ITEMS` and `_OTHER_STRINGS`, and the same with a number.
_NUMBERED = {
    "another": "another-{:03}-",
    "ANOTHER": "ANOTHER_{:03}_",
    "7777": "30{:03}",
    "7Gi": "30{:03}Mi",
}


def distinct(number: int, key: str, value: object) -> tuple[object, str] | None:
    """Return a valid value that no other key has, and the text by which a rendering shows it.

    Returns None if there is none for the key, or if its value prevents that of another key.
    """
    if key in _ALONE or key.endswith("image.registry"):
        return None
    other = another(key, value)
    written = json.dumps(other)
    for text, numbered in _NUMBERED.items():
        if text in written:
            shown = numbered.format(number)
            return json.loads(written.replace(text, shown)), shown
    if other == f"{value}x":
        return f"{value}x{number}x", f"x{number}x"
    if isinstance(other, int) and key.endswith("Seconds"):
        return 30000 + number, f"{30000 + number}"
    return None


_DISTINCT = {
    (chart, key): found
    for number, (chart, key, default) in enumerate(_LEAVES)
    if (found := distinct(number, key, default))
}


def with_distinct_values(story: Story) -> str:
    """Render a story with the values of all keys in `_DISTINCT` at once."""
    values = {key: value for (chart, key), (value, _) in _DISTINCT.items() if chart == story.chart}
    rendered = template(story.with_values(values))
    assert rendered.returncode == 0, f"add the refused key to _ALONE: {rendered.stderr}"
    return rendered.stdout


@pytest.mark.parametrize(("chart", "key", "default"), _LEAVES)
def test_every_key_of_the_values_has_an_effect(chart: str, key: str, default: object) -> None:
    # A key has an effect if it changes the rendered objects, or if a guard refuses its value.
    value = {key: another(key, default)}
    section = key.partition(".")[0]
    charts = _CHARTS if section == _SHARED else (chart,)
    stories = [each for each in STORIES.values() if each.chart in charts and not each.files]
    # To save time, try stories first that set keys of the same section: a rendering takes 0.1 s.
    stories.sort(key=lambda story: not any(name.startswith(section) for name in story.values))
    if (chart, key) in _DISTINCT:
        _, shown = _DISTINCT[chart, key]
        assert not any(shown in template(story).stdout for story in stories)
        if any(shown in with_distinct_values(story) for story in stories):
            return
    for story in stories:
        changed = template(story.with_values(value))
        assert "values don't meet the specifications" not in changed.stderr, changed.stderr
        refused = changed.returncode != 0 and key.rpartition(".")[2] in changed.stderr
        if refused or (changed.returncode == 0 and changed.stdout != template(story).stdout):
            return
    pytest.fail(f"no template uses {key}")


_UNKNOWN = [
    ("server", "", "apis"),
    ("server", "api.", "replica"),
    ("server", "image.", "tags"),
    ("server", "database.embedded.storage.", "sizes"),
    ("server", "database.external.connectionUrlSecret.", "names"),
    ("worker", "worker.", "limits"),
    ("server", "database.external.tls.", "sslmode"),
    ("server", "ingress.", "hosts"),
    ("worker", "jobs.resources.requests.", "gpu"),
    ("worker", "configuration.", "platforms"),
    ("server", "retention.", "logDays"),
    ("worker", "retention.jobs.", "ttl"),
    ("worker", "pools.default.", "api"),
    ("worker", "pools.default.worker.", "limits"),
    ("worker", "pools.etl.jobs.resources.requests.", "gpu"),
]


@pytest.mark.parametrize(("story", "parent", "key"), _UNKNOWN)
def test_an_unknown_key_is_refused(story: str, parent: str, key: str) -> None:
    # All are given at once, because the schema reports every unknown key.
    values = {f"{above}{unknown}": "1" for given, above, unknown in _UNKNOWN if given == story}
    refused = template(STORIES[story].with_values(values))
    where = f"/{parent.removesuffix('.').replace('.', '/')}".removesuffix("/")
    assert refused.returncode != 0
    assert f"at '{where}': additional properties '{key}' not allowed" in refused.stderr


@pytest.mark.parametrize(
    ("story", "values", "message"),
    [
        ("server", {"image.tag": "latest"}, "image.tag is `latest`"),
        (
            "server",
            {"database.embedded.image.tag": ""},
            "at '/database/embedded/image/tag': minLength: got 0, want 1",
        ),
        ("server", {"migrations.mayLose": ["held"]}, "the next downgrade would drop rows"),
        ("server", {"api.replicas": 2}, "api.replicas is 2, but in mode single"),
        (
            "server",
            {"backgroundServices.replicas": 2},
            "backgroundServices.replicas is 2, but in mode single",
        ),
        ("server", {"api.autoscaling.enabled": True}, "mode single allows only one pod"),
        ("server", {"redis.external.urlSecret.name": "ours"}, "mode single uses no Redis"),
        ("server-ha", {"redis.mode": "external"}, "no Redis is named"),
        ("server-ha", {"redis.external.urlSecret.name": "ours"}, "set redis.mode=external"),
        ("server-ha-scaled", {"api.autoscaling.minReplicas": 9}, "minReplicas is 9, which is more"),
        ("server-ha", {"api.replicas": 16}, "leaves 4 for each process of the API"),
        ("server-ha-scaled", {"api.autoscaling.maxReplicas": 40}, "or lower api.replicas"),
        (
            "server",
            {"database.embedded.parameters": {"max_connections": "14"}},
            "leaves 4 for each process of the API",
        ),
        (
            "server-cloudnative-pg",
            {"api.replicas": 16},
            "raise database.cloudnativePg.parameters.max_connections, or lower",
        ),
        ("server", _PRODUCTION, "lost with its node; set database.mode=external"),
        (
            "server",
            {**_PRODUCTION, "fullnameOverride": "second"},
            "this server is second.prefect",
        ),
        ("server", {"auth.secret.name": ""}, "without authentication everyone"),
        ("server", {"encryption.secret.name": ""}, "in the same database"),
        ("server", {"database.mode": "external"}, "no database is named"),
        (
            "server",
            {"database.external.host": "db.example.org"},
            "set database.mode=external",
        ),
        (
            "server-external-url",
            {"database.external.host": "db.example.org"},
            "only one database can be used",
        ),
        (
            "server",
            {"extraEnv": [{"name": "PREFECT_SERVER_DATABASE_HOST", "value": "x"}]},
            "the migration Job would not see",
        ),
        ("worker", {"jobs.template.variables": None}, "jobs.template removes variables"),
        (
            "worker",
            {"jobs.template.variables.properties.env.default.PREFECT_API_AUTH_STRING": "a:b"},
            "sets PREFECT_API_AUTH_STRING for the pool default",
        ),
        (
            "server",
            {"extraEnv": [{"name": "PREFECT_SERVER_API_AUTH_STRING", "value": "a:b"}]},
            "which comes from a Secret: set the values under auth",
        ),
        (
            "server",
            {"extraEnv": [{"name": "PREFECT_SERVER_UI_API_URL", "value": "x"}]},
            "set publicUrl and ui",
        ),
        (
            "server",
            {"extraEnv": [{"name": "PREFECT_API_DATABASE_CONNECTION_URL", "value": "sqlite:///x"}]},
            "the migration Job would not see",
        ),
        (
            "server",
            {
                "extraEnv": [
                    {
                        "name": "PREFECT_SERVER_DATABASE_SQLALCHEMY_CONNECT_ARGS_TLS_ENABLED",
                        "value": "true",
                    }
                ]
            },
            "the migration Job would not see",
        ),
        (
            "server",
            {"extraEnv": [{"name": "PGSSLMODE", "value": "verify-full"}]},
            "the migration Job would not see",
        ),
        (
            "server",
            {"extraEnv": [{"name": "PREFECT_SERVER_API_BASE_PATH", "value": "/x/api"}]},
            "set publicUrl",
        ),
        (
            "server-external-host",
            {"database.external.tls.mode": "verify-full"},
            "set database.external.tls.caSecret.name",
        ),
        (
            "server-external-host",
            {"database.external.tls.mode": "verify-ca"},
            "the system's are not used",
        ),
        (
            "server-external-tls",
            {"database.external.tls.mode": "disable"},
            "names certificates, but its mode is disable",
        ),
        (
            "server-external-tls",
            {"database.external.tls.mode": "prefer"},
            "names certificates, but its mode is prefer",
        ),
        (
            "server-ha-external",
            {**_PRODUCTION, "database.external.tls.mode": "prefer"},
            "in the clear",
        ),
        (
            "server-ha-external",
            {"profile": "production", "image.digest": _DIGEST},
            "notifications.hosts is not set",
        ),
        (
            "server-ha-external",
            {**_PRODUCTION, "networkPolicies.kubernetesApi.to": []},
            "networkPolicies.kubernetesApi.to is empty, but profile is production",
        ),
        (
            "server",
            {"database.external.tls.caSecret.name": "ours"},
            "set database.mode=external",
        ),
        (
            "server-cloudnative-pg",
            {"database.external.host": "db.example.org"},
            "database.mode is cloudnative-pg: set database.mode=external",
        ),
        (
            "server-cloudnative-pg",
            {**_PRODUCTION, "database.cloudnativePg.instances": 1},
            "set at least 2",
        ),
        (
            "server-cloudnative-pg",
            {"database.passwordSecret.key": "pw"},
            "set it to password",
        ),
        ("server", {"api.tls.enabled": True}, "no certificate is named: set api.tls.secret.name"),
        ("server", {"api.tls.secret.name": "ours"}, "the API would serve plain HTTP"),
        (
            "server",
            {"api.tls.certManager.issuerRef.name": "ours"},
            "the API would serve plain HTTP",
        ),
        (
            "server-tls",
            {"api.tls.certManager.issuerRef.name": "ours"},
            "the API serves only one certificate: clear one of them",
        ),
        (
            "worker",
            {"api.certificateAuthority.name": "ours"},
            "which uses no TLS: set api.url=https://",
        ),
        *(
            (
                "worker",
                {key: [{"name": "PREFECT_API_TLS_INSECURE_SKIP_VERIFY", "value": "true"}]},
                "with which anyone in between could read the auth string",
            )
            for key in ("worker.extraEnv", "jobs.env")
        ),
        ("server-ingress", {"publicUrl": ""}, "no host is named"),
        ("server-ingress", {"ingress.host": "b.example.org"}, "publicUrl points to example.org"),
        ("server-ingress", {"publicUrl": "http://example.org"}, "set publicUrl=https://HOST"),
        ("server-http-route", {"publicUrl": ""}, "no host is named"),
        (
            "server-http-route",
            {"httpRoute.hostnames": ["b.example.org"]},
            "does not contain prefect.example",
        ),
        ("server-http-route", {"httpRoute.parentRefs": []}, "no Gateway is named"),
        ("server-ingress", {"networkPolicies.apiProxies": []}, "in networkPolicies.apiProxies"),
        ("server-http-route", {"networkPolicies.apiProxies": []}, "httpRoute.enabled is true, but"),
        ("server", {"service.type": "NodePort"}, "service.type is NodePort, but the API's"),
        (
            "server-ha-external",
            {
                **_PRODUCTION,
                "service.type": "LoadBalancer",
                "networkPolicies.apiProxies": _PEERS,
            },
            "the password would cross the network in the clear",
        ),
        ("server", {"publicUrl": "https://example.org/v2"}, "second user interface"),
        *(
            ("server", {"extraEnv": [{"name": name, "value": "x"}]}, f"extraEnv sets {name}, with")
            for name in ("PREFECT_PLUGINS_ALLOW", "PREFECT_PLUGINS_SAFE_MODE", "NOTIFICATION_HOSTS")
        ),
        *(
            (
                "worker",
                {key: [{"name": "PREFECT_PLUGINS_ALLOW", "value": "x"}]},
                "sets PREFECT_PLUGINS_ALLOW for the pool default: without the chart's plugins",
            )
            for key in ("worker.extraEnv", "jobs.env")
        ),
        (
            "server",
            {"extraEnv": [{"name": "PREFECT_SERVER_EVENTS_RETENTION_PERIOD", "value": "7d"}]},
            "would not follow: set the values under retention",
        ),
        (
            "server",
            {
                "extraEnv": [
                    {"name": "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED", "value": "events"}
                ]
            },
            "would not follow: set the values under retention",
        ),
        (
            "worker",
            {"retention.unfinishedRuns": "24h"},
            "retention.unfinishedRuns is 24h, but a run of the pool default may take 86400 s",
        ),
        (
            "worker",
            {"pools.long": {"jobs": {"activeDeadlineSeconds": 8000000}}},
            "is 90d, but a run of the pool long may take 8000000 s",
        ),
        (
            "worker",
            {"retention.objects.results": "90d"},
            "retention.objects.results is 90d, counted from the time that a result is written, but",
        ),
        (
            "server-ha-external",
            {**_PRODUCTION, "global.imageDigests": {}},
            "image has no digest, but profile is production: a tag can name another image tomorrow",
        ),
        (
            "worker",
            {"profile": "production", "image.digest": _DIGEST},
            "jobs.image has no digest, but profile is production",
        ),
        (
            "worker",
            {"jobs.image.digest": _DIGEST, "pools.etl": {"jobs": {"image": {"tag": "7"}}}},
            "but jobs.image.digest would select another one: set pools.etl.jobs.image.digest",
        ),
        (
            "worker",
            {
                "global.imageDigests": {"flows": _DIGEST},
                "pools.etl": {"jobs": {"image": {"tag": "7"}}},
            },
            "but global.imageDigests would select another one: set pools.etl.jobs.image.digest",
        ),
        ("worker", {"jobs.image.tag": "latest"}, "jobs.image.tag is `latest`"),
        (
            "server",
            {
                "auth.workers.edge": {"name": "worker-edge", "key": "password"},
                "auth.runIdentity.enabled": False,
            },
            "turn run identity on",
        ),
        (
            "worker",
            {"auth.secret.name": "", "auth.runIdentity.enabled": False},
            "requires authentication",
        ),
        ("worker", {"jobs.namespace": "prefect-workers"}, "a namespace of their own"),
        (
            "worker",
            {
                "worker.extraEnv": [
                    {
                        "name": "PREFECT_API_KEY",
                        "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}},
                    }
                ]
            },
            "copies Prefect's settings into each Job in plain text",
        ),
        (
            "worker",
            {"worker.extraEnv": [{"name": "PREFECT_API_AUTH_STRING", "value": "admin:x"}]},
            "worker.extraEnv sets PREFECT_API_AUTH_STRING for the pool default: use api.url",
        ),
        (
            "worker",
            {"jobs.env": [{"name": "PREFECT_API_AUTH_STRING", "value": "admin:x"}]},
            "use api.url, api.certificateAuthority and auth",
        ),
        ("worker", {"jobs.env": [{"name": "EMPTY"}]}, "neither value nor valueFrom"),
        (
            "worker",
            {"jobs.env": [{"name": "PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "value": "180"}]},
            "use jobs.heartbeatSeconds",
        ),
        (
            "worker",
            {"worker.extraEnv": [{"name": "PREFECT_RUNNER_HEARTBEAT_FREQUENCY", "value": "180"}]},
            "use jobs.heartbeatSeconds",
        ),
        (
            "worker",
            {
                "jobs.template.variables.properties.env.default": {
                    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "180"
                }
            },
            "use jobs.heartbeatSeconds",
        ),
        (
            "worker",
            {"jobs.heartbeatSeconds": 201},
            "reaper.silenceSeconds is too short for the pool default",
        ),
        ("worker", {"pools.default": None}, "pools is empty"),
        ("worker", {"pools.etl": {"jobs": {"image": {"tag": "latest"}}}}, "tag is `latest`"),
        (
            "worker",
            {"pools.etl": {"jobs": {"namespace": "flows-default"}}},
            "default and etl share the namespace flows-default for their job pods",
        ),
        ("worker", {"pools.etl": {}, "jobs.namespace": "flows"}, "set pools.etl.jobs.namespace"),
        (
            "worker",
            {"pools.etl": {"jobs": {"namespace": "prefect-workers"}}},
            "give the job pods of the pool etl a namespace of their own",
        ),
        (
            "worker",
            {"pools.etl": {"jobs": {"env": [{"name": "PREFECT_HOME", "value": "/"}]}}},
            "jobs.env or jobs.template sets PREFECT_HOME for the pool etl",
        ),
        ("worker", {"jobs.template": {"job_manifest": {}}}, "jobs.template has job_manifest"),
        (
            "worker",
            {"jobs.template.job_configuration": {"job_manifest": "{{ job_manifest }}"}},
            "job_configuration.job_manifest would be replaced",
        ),
        (
            "worker",
            {"jobs.template.job_configuration.job_manifest.spec": None},
            "job_manifest.spec would be replaced",
        ),
        (
            "worker",
            {"jobs.template.job_configuration.cluster_config": "{{ cluster_config }}"},
            "cluster_config is fixed",
        ),
        *(
            (
                "worker",
                {f"jobs.template.job_configuration.job_manifest.{path}": value},
                f"jobs.template.job_configuration.job_manifest.{path} is fixed, because it",
            )
            for path, value in {
                "metadata.namespace": "kube-system",
                "spec.backoffLimit": 3,
                "spec.podFailurePolicy": {"rules": []},
                "spec.template.spec.nodeName": "a",
                "spec.parallelism": 2,
                "spec.template.spec.automountServiceAccountToken": True,
                "spec.template.spec.containers": [],
                "spec.template.spec.hostNetwork": True,
                "spec.template.spec.securityContext": {"runAsUser": 0},
                "spec.template.spec.serviceAccountName": "{{ service_account_name }}",
                "spec.template.spec.volumes": None,
            }.items()
        ),
    ],
)
def test_an_unsafe_combination_is_refused_with_advice(
    story: str, values: dict[str, object], message: str
) -> None:
    refused = template(STORIES[story].with_values(values))
    assert refused.returncode != 0
    assert message in refused.stderr


@pytest.mark.parametrize(
    ("story", "values"),
    [
        ("server", {"api.replicas": 0}),
        ("server-ha", {"api.replicas": 15}),
        (
            "server-ha",
            {
                "api.replicas": 16,
                "database.embedded.parameters": {"max_connections": "200"},
            },
        ),
        ("server-ha-external", _PRODUCTION),
        ("server-ha-external", {**_PRODUCTION, "notifications.hosts": "any"}),
        (
            "server-ha-external",
            {
                **_PRODUCTION,
                "networkPolicies.kubernetesApi.to": [],
                "auth.runIdentity.enabled": False,
            },
        ),
        ("server-cloudnative-pg", {**_PRODUCTION, "database.cloudnativePg.instances": 2}),
        (
            "server-ha-external",
            {
                **_PRODUCTION,
                "service.type": "LoadBalancer",
                "publicUrl": "https://prefect.example.org",
                "networkPolicies.apiProxies": _PEERS,
            },
        ),
        ("server-ingress", {"networkPolicies.apiProxies": [], "networkPolicies.enabled": False}),
        (
            "server-ingress",
            {"networkPolicies.apiProxies": [], "networkPolicies.components.api": False},
        ),
        ("server-ingress", {"ingress.host": "example.org"}),
        (
            "server-ingress",
            {"publicUrl": "", "ingress.host": "example.org", "ingress.tls.secretName": ""},
        ),
        ("server", {"image.tag": "latest", "image.digest": _DIGEST}),
        (
            "server-ha-external",
            {**_PRODUCTION, "global.imageDigests": {}, "image.digest": _DIGEST},
        ),
        (
            "worker",
            {
                "jobs.image.digest": _DIGEST,
                "pools.etl": {"jobs": {"image": {"tag": "7", "digest": ""}}},
            },
        ),
        ("worker", {"api.url": "https://prefect.example.org/api"}),
        ("worker", {"global.aKeyOfAParentChart": "1"}),
        ("worker", {"pools.etl": {"jobs": {"image": {"tag": "ba9876543210"}}}}),
        ("worker", {"pools.etl": {"jobs": {"resources": {"requests": {"cpu": "2"}}}}}),
        ("worker", {"pools": {"etl": {"jobs": {"namespace": "flows"}}, "default": None}}),
        ("worker", {"jobs.image.tag": "", "pools.default": {"jobs": {"image": {"tag": "7"}}}}),
        ("server", {"extraEnv": [{"name": "PREFECT_SERVER_LOGGING_LEVEL", "value": "X"}]}),
        (
            "server",
            {"extraEnv": [{"name": "PREFECT_SERVER_DATABASE_SQLALCHEMY_POOL_SIZE", "value": "9"}]},
        ),
        ("worker", {"worker.extraEnv": [{"name": "PREFECT_LOGGING_LEVEL", "value": "DEBUG"}]}),
    ],
)
def test_a_safe_combination_is_accepted(story: str, values: dict[str, object]) -> None:
    rendered = template(STORIES[story].with_values(values))
    assert rendered.returncode == 0, rendered.stderr


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/prefect/",
        "https://example.org/",
        "https://example.org/prefect?team=a",
        "https://user:password@example.org",
        "https://example.org/a/../b",
        "example.org/prefect",
    ],
)
def test_an_invalid_public_url_is_refused(url: str) -> None:
    refused = template(STORIES["server"].with_values({"publicUrl": url}))
    assert refused.returncode != 0
    assert "publicUrl" in refused.stderr


def test_both_charts_name_the_installed_release_of_prefect() -> None:
    versions = {
        yaml.safe_load((HELM_CHARTS / chart / "Chart.yaml").read_text())["appVersion"]
        for chart in ("prefect-server", "prefect-worker")
    }
    assert versions == {prefect.__version__}
