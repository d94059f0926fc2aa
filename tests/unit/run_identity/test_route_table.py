"""Every route of the pinned API has a decision, and a request finds the one of its route."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prefect.server.api.server import API_ROUTERS, create_api_app
from starlette.routing import Match, Route

from prefect_platform.reaper import pass_report
from prefect_platform.run_identity import rules
from prefect_platform.run_identity.identity import Part
from prefect_platform.run_identity.part_tables import TABLES, match
from prefect_platform.run_identity.route_table import ALLOWED, DENIED
from prefect_platform.worker import helm_test, probe_flow


def _served() -> Iterator[tuple[str, Any]]:
    """Yield METHOD PATH and the route, for each route of Prefect's API."""
    own = [each for each in create_api_app().routes if isinstance(each, Route)]
    for route in [*own, *(each for router in API_ROUTERS for each in router.routes)]:
        for method in getattr(route, "methods", None) or ["WEBSOCKET"]:
            yield f"{method} {getattr(route, 'path', '')}", route


_SERVED = dict(_served())
_SEGMENT = st.text(min_size=1).filter(lambda text: "/" not in text)


def test_every_route_of_the_pinned_api_has_a_decision() -> None:
    assert not ALLOWED.keys() & DENIED
    assert ALLOWED.keys() | DENIED == _SERVED.keys()


@pytest.mark.parametrize("part", Part)
def test_each_table_names_routes_of_the_pinned_api(part: Part) -> None:
    assert TABLES[part].keys() <= _SERVED.keys()


def test_the_rules_name_the_release_test_and_the_reports_of_the_reaper() -> None:
    assert helm_test._ENTRYPOINT == rules.RELEASE_TEST_ENTRYPOINT
    assert probe_flow.platform_test.name == rules.RELEASE_TEST_FLOW
    assert rules.REAPER_EVENTS.keys() == {pass_report.EVENT, pass_report.SILENT_EVENT}


@given(st.sampled_from(Part), st.data())
@settings(deadline=None, max_examples=1000)
def test_a_request_is_decided_as_the_route_that_prefect_serves(
    part: Part, data: st.DataObject
) -> None:
    """A name in a path may look like another route."""
    route = data.draw(st.sampled_from(sorted(ALLOWED.keys() | DENIED)))
    method, template = route.split(" ", 1)
    names = st.sampled_from(
        ["name", "filter", "count", "create_flow_run", "..", "%2F", str(uuid4())]
    )
    path = "/".join(
        (str(data.draw(st.uuids())) if each.endswith(":uuid}") else data.draw(_SEGMENT | names))
        if each.startswith("{")
        else each
        for each in template.split("/")
    )
    found = match(part, method, path)

    assert (found.route if found else None) == (
        served if (served := _first(method, path)) in TABLES[part] else None
    )


def _first(method: str, path: str) -> str | None:
    """Return the route that serves a request, as Starlette chooses it: the first that matches."""
    kind = "websocket" if method == "WEBSOCKET" else "http"
    scope = {"type": kind, "method": method, "path": path, "root_path": "", "headers": []}
    for name, route in _SERVED.items():
        if route.matches(scope)[0] is Match.FULL and name.split(" ", 1)[0] == method:
            return name
    return None


@pytest.mark.parametrize("route", sorted(DENIED))
def test_a_denied_route_is_not_matched(route: str) -> None:
    method, path = route.split(" ", 1)
    filled = "/".join(
        (str(uuid4()) if each.endswith(":uuid}") else "x") if each.startswith("{") else each
        for each in path.split("/")
    )
    assert match(Part.RUN, method, filled) is None
