"""The public URL determines the Ingress or HTTPRoute, the path prefix, links and probes."""

from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.server.events.jinja_filters import ui_resource_events_url, ui_url
from prefect.server.events.schemas.events import Resource
from prefect.settings import PREFECT_UI_URL, temporary_settings

from prefect_platform_cli.deploy.connection import path_prefix
from tests.support.rendering import STORIES, Object, Story, find, objects

_RUN = UUID(int=7)
PREFIXED = STORIES["server-ingress"]
UNPREFIXED = STORIES["server-http-route"]


def api(story: Story) -> Object:
    pod: Object = find(objects(story), "Deployment", "api")["spec"]["template"]["spec"]
    return pod


def environment(story: Story, component: str = "api") -> dict[str, str]:
    pod = find(objects(story), "Deployment", component)["spec"]["template"]["spec"]
    return {each["name"]: each.get("value", "") for each in pod["containers"][0]["env"]}


def probes(story: Story) -> set[str]:
    container = api(story)["containers"][0]
    kinds = ("startup", "readiness", "liveness")
    return {container[f"{kind}Probe"]["httpGet"]["path"] for kind in kinds}


def test_an_ingress_routes_the_path_of_the_public_url_to_the_service() -> None:
    rendered = objects(PREFIXED)
    spec = find(rendered, "Ingress", "api")["spec"]
    service = find(rendered, "Service", "api")
    (rule,) = spec["rules"]
    (path,) = rule["http"]["paths"]

    assert rule["host"] == "example.org"
    assert spec["tls"] == [{"hosts": ["example.org"], "secretName": "example-org"}]
    assert (path["path"], path["pathType"]) == ("/prefect", "Prefix")
    assert path["backend"]["service"]["name"] == service["metadata"]["name"]
    assert path["backend"]["service"]["port"]["name"] == service["spec"]["ports"][0]["name"]


def test_an_http_route_sends_the_host_of_the_public_url_to_the_service() -> None:
    rendered = objects(UNPREFIXED)
    spec = find(rendered, "HTTPRoute", "api")["spec"]
    service = find(rendered, "Service", "api")
    (rule,) = spec["rules"]

    assert spec["hostnames"] == ["prefect.example.org"]
    assert spec["parentRefs"] == [{"name": "public", "namespace": "gateways"}]
    assert rule["matches"] == [{"path": {"type": "PathPrefix", "value": "/"}}]
    assert rule["backendRefs"] == [
        {"name": service["metadata"]["name"], "port": service["spec"]["ports"][0]["port"]}
    ]


def test_the_port_of_the_public_url_is_not_part_of_the_ingress_host() -> None:
    story = PREFIXED.with_values({"publicUrl": "https://example.org:8443/prefect"})

    assert find(objects(story), "Ingress", "api")["spec"]["rules"][0]["host"] == "example.org"
    assert environment(story)["PREFECT_UI_URL"] == "https://example.org:8443/prefect/"


def test_server_and_probes_use_the_path_prefix() -> None:
    found = environment(PREFIXED)

    assert found["PREFECT_SERVER_API_BASE_PATH"] == "/prefect/api"
    assert found["PREFECT_SERVER_UI_SERVE_BASE"] == "/prefect"
    assert found["PREFECT_SERVER_UI_API_URL"] == "/prefect/api"
    assert probes(PREFIXED) == {"/prefect/api/health", "/prefect/api/ready"}
    assert path_prefix(find(objects(PREFIXED), "Deployment", "api")) == "/prefect"


def test_with_a_path_prefix_the_user_interface_has_a_writable_directory() -> None:
    pod = api(PREFIXED)
    (mount,) = [each for each in pod["containers"][0]["volumeMounts"] if each["name"] == "ui"]
    (volume,) = [each for each in pod["volumes"] if each["name"] == "ui"]

    assert mount["mountPath"] == environment(PREFIXED)["PREFECT_SERVER_UI_STATIC_DIRECTORY"]
    assert not mount.get("readOnly")
    assert volume["emptyDir"]["sizeLimit"] == "64Mi"


@pytest.mark.parametrize("story", [UNPREFIXED, STORIES["server"]], ids=["host", "no public URL"])
def test_without_a_path_prefix_the_default_paths_are_used(story: Story) -> None:
    found = environment(story)

    assert found["PREFECT_SERVER_UI_API_URL"] == "/api"
    assert not {
        "PREFECT_SERVER_API_BASE_PATH",
        "PREFECT_SERVER_UI_SERVE_BASE",
        "PREFECT_SERVER_UI_STATIC_DIRECTORY",  # the image contains the files for "/"
    } & set(found)
    assert probes(story) == {"/api/health", "/api/ready"}
    assert path_prefix(find(objects(story), "Deployment", "api")) == ""


@pytest.mark.parametrize("component", ["api", "services"])
def test_links_in_notifications_start_with_the_public_url(component: str) -> None:
    public = {"publicUrl": "https://example.org/prefect"}
    url = environment(STORIES["server-ha"].with_values(public), component)["PREFECT_UI_URL"]
    resource = Resource({"prefect.resource.id": f"prefect.flow-run.{_RUN}"})
    context: Any = SimpleNamespace()

    with temporary_settings({PREFECT_UI_URL: url}):
        run = FlowRun(id=_RUN, flow_id=_RUN, name="quiet-otter")
        links = [ui_url(context, run), ui_resource_events_url(context, resource)]

    assert links == [
        f"https://example.org/prefect/runs/flow-run/{_RUN}",
        f"https://example.org/prefect/events?resource=prefect.flow-run.{_RUN}",
    ]


def test_type_and_annotations_of_the_service_follow_the_values() -> None:
    story = STORIES["server"].with_values(
        {
            "service.type": "LoadBalancer",
            "service.annotations": {"example.org/internal": "true"},
            "networkPolicies.apiProxies": [{"ipBlock": {"cidr": "192.0.2.0/24"}}],
        }
    )
    service = find(objects(story), "Service", "api")

    assert service["spec"]["type"] == "LoadBalancer"
    assert service["metadata"]["annotations"] == {"example.org/internal": "true"}


@pytest.mark.parametrize(("story", "kind"), [(PREFIXED, "Ingress"), (UNPREFIXED, "HTTPRoute")])
def test_ingress_and_http_route_get_the_configured_annotations(story: Story, kind: str) -> None:
    key = {"Ingress": "ingress", "HTTPRoute": "httpRoute"}[kind]
    issuer = {"cert-manager.io/cluster-issuer": "letsencrypt"}
    changed = story.with_values({f"{key}.annotations": issuer})

    assert find(objects(changed), kind, "api")["metadata"]["annotations"] == issuer


@pytest.mark.parametrize(
    ("public_url", "origin"),
    [
        ("", ""),
        ("https://example.org/prefect", "https://example.org"),
        ("http://127.0.0.1:4200", "http://127.0.0.1:4200"),
    ],
)
def test_only_the_origin_of_the_public_url_is_allowed_by_cors(public_url: str, origin: str) -> None:
    story = STORIES["server"].with_values({"publicUrl": public_url})

    assert environment(story)["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"] == origin


def test_a_user_interface_elsewhere_is_allowed_through_extra_env() -> None:
    more = {"name": "PREFECT_SERVER_CORS_ALLOWED_ORIGINS", "value": "https://ui.example.org"}

    assert environment(PREFIXED.with_values({"extraEnv": [more]}))[more["name"]] == more["value"]


def test_the_plugin_of_the_security_headers_knows_the_origins_of_images() -> None:
    origins = ["https://a.example", "https://*.b.example:8443"]
    found = environment(STORIES["server"].with_values({"ui.imageOrigins": origins}))

    assert "security-headers" in found["PREFECT_PLUGINS_ALLOW"].split(",")
    assert found["UI_IMAGE_ORIGINS"].split() == origins
    assert "UI_IMAGE_ORIGINS" not in environment(STORIES["server"])
