"""An automation in a file is valid only if Prefect's server accepts it and it can work."""

import ast
import inspect
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args
from uuid import UUID, uuid4

import jsonschema
import pytest
from hypothesis import given, settings
from prefect.events.actions import ActionTypes as ClientActionTypes
from prefect.events.schemas import automations as client
from prefect.server.events import triggers
from prefect.server.events.schemas import automations as server
from prefect.server.events.schemas.events import ReceivedEvent, ResourceSpecification
from prefect.types import DateTime
from prefect.types._datetime import now
from pydantic import BaseModel, TypeAdapter

from prefect_platform.configuration.automations.automation_models import (
    ACTION_LISTS,
    ACTIONS,
    CLIENT_DEFAULTS,
    CLOUD_ONLY,
    FREE_FORM,
    TRIGGERS,
    fields_of,
)
from prefect_platform.configuration.automations.automation_schema import json_schema
from prefect_platform.configuration.automations.automations import Automations
from prefect_platform.configuration.core import source
from prefect_platform.configuration.core.context import Offline
from prefect_platform.configuration.core.order import in_order
from prefect_platform.configuration.core.references import ID_FIELDS
from prefect_platform.configuration.core.resource import Declared, Key, Kind
from prefect_platform.configuration.core.source import ConfigurationError, Problem
from tests.support import strategies_automations as strategies

EXAMPLE = """
automations:
  crashed:
    description: A run crashed.
    tags: [alerts]
    trigger:
      type: event
      expect: [prefect.flow-run.Crashed]
      match: {prefect.resource.id: prefect.flow-run.*}
      match_related:
        - prefect.resource.role: deployment
          prefect.resource.id: [{deployment: etl-daily/daily}, {deployment: etl-daily/hourly}]
      for_each: [prefect.resource.id]
    actions:
      - type: send-notification
        block: slack-webhook/oncall
        subject: "{{ flow_run.name }} crashed"
        body: "{{ flow_run.state.message }}"
      - type: run-deployment
        deployment: repair/now
        parameters:
          who: {__prefect_kind: workspace_variable, variable_name: oncall}
      - {type: pause-work-pool, work_pool: default}
      - {type: pause-work-queue, work_queue: default/urgent}
      - {type: pause-automation, automation: other}
      - {type: cancel-flow-run}
  stuck:
    enabled: false
    trigger:
      type: sequence
      within: PT90S
      triggers:
        - {posture: Proactive, expect: [prefect.flow-run.heartbeat], within: PT1M30S}
        - type: compound
          require: any
          triggers:
            - {expect: [a, c, b]}
    actions: []
"""


def declared(tmp_path: Path, text: str) -> list[Declared]:
    path = tmp_path / "platform.yaml"
    path.write_text(text)
    return Automations().declare(source.read(path), Offline())


def problems(tmp_path: Path, text: str) -> list[Problem]:
    with pytest.raises(ConfigurationError) as refused:
        declared(tmp_path, text)
    return refused.value.problems


def refused(tmp_path: Path, automation: str) -> list[tuple[int, str, str]]:
    """Return the line, cause and fix of each problem of an automation that begins on line 3."""
    text = "automations:\n  mine:\n" + "\n".join(
        f"    {line}" for line in automation.strip().splitlines()
    )
    return [(each.at.line, each.cause, each.fix) for each in problems(tmp_path, text)]


def test_an_absent_or_empty_section_declares_nothing(tmp_path: Path) -> None:
    assert declared(tmp_path, "variables: {}") == []
    assert declared(tmp_path, "automations:") == []


def test_a_body_is_complete_with_names_and_durations_in_seconds(tmp_path: Path) -> None:
    crashed, stuck = declared(tmp_path, EXAMPLE)

    assert crashed.key == Key(Kind.AUTOMATION, "crashed")
    assert crashed.at.line == 3
    assert crashed.body == {
        "description": "A run crashed.",
        "tags": ["alerts"],
        "trigger": {
            "type": "event",
            "posture": "Reactive",
            "after": [],
            "expect": ["prefect.flow-run.Crashed"],
            "match": {"prefect.resource.id": "prefect.flow-run.*"},
            "match_related": [
                {
                    "prefect.resource.role": "deployment",
                    "prefect.resource.id": [
                        {"deployment": "etl-daily/daily"},
                        {"deployment": "etl-daily/hourly"},
                    ],
                }
            ],
            "for_each": ["prefect.resource.id"],
            "threshold": 1,
            "within": 0,
        },
        "actions": [
            {
                "type": "send-notification",
                "block": "slack-webhook/oncall",
                "subject": "{{ flow_run.name }} crashed",
                "body": "{{ flow_run.state.message }}",
            },
            {
                "type": "run-deployment",
                "source": "selected",
                "deployment": "repair/now",
                "parameters": {
                    "who": {"__prefect_kind": "workspace_variable", "variable_name": "oncall"}
                },
                "job_variables": None,
                "schedule_after": 0,
            },
            {"type": "pause-work-pool", "source": "selected", "work_pool": "default"},
            {"type": "pause-work-queue", "source": "selected", "work_queue": "default/urgent"},
            {"type": "pause-automation", "source": "selected", "automation": "other"},
            {"type": "cancel-flow-run"},
        ],
        "actions_on_trigger": [],
        "actions_on_resolve": [],
    }
    assert stuck.body["enabled"] is False
    assert stuck.body["trigger"]["within"] == 90
    proactive, compound = stuck.body["trigger"]["triggers"]
    assert proactive["within"] == 90
    assert compound["within"] is None
    assert compound["triggers"][0]["expect"] == ["a", "b", "c"]


def test_an_automation_needs_every_resource_that_it_names(tmp_path: Path) -> None:
    crashed, stuck = declared(tmp_path, EXAMPLE)

    assert crashed.needs == {
        Key(Kind.DEPLOYMENT, "etl-daily/daily"),
        Key(Kind.DEPLOYMENT, "etl-daily/hourly"),
        Key(Kind.DEPLOYMENT, "repair/now"),
        Key(Kind.BLOCK, "slack-webhook/oncall"),
        Key(Kind.WORK_POOL, "default"),
        Key(Kind.WORK_QUEUE, "default/urgent"),
        Key(Kind.AUTOMATION, "other"),
        Key(Kind.VARIABLE, "oncall"),
    }
    assert stuck.needs == frozenset()


@settings(deadline=None)  # a busy machine may be slow
@given(strategies.automations())
def test_declaring_a_body_again_returns_the_same_body(automation: strategies.Automation) -> None:
    (first,) = Automations().declare(strategies.source({"mine": automation}), Offline())

    (again,) = Automations().declare(strategies.source({"mine": dict(first.body)}), Offline())

    assert again.body == first.body
    assert again.needs == first.needs


ACTION = "trigger: {expect: [a]}\nactions:\n  - "
TRIGGER = "actions: []\ntrigger:\n  "


@pytest.mark.parametrize(
    ("automation", "line", "cause", "fix"),
    [
        ("actions: []", 2, "the key trigger is missing", "add it"),
        ("trigger: {}", 2, "the key actions is missing", "add it"),
        ("trigger: 5\nactions: []", 3, "trigger is not a mapping", "write `KEY: VALUE` lines"),
        ("trigger: {}\nactions: []\nowner_resource: me", 5, "there is no key owner_resource", ""),
        ("trigger: {}\nactions: []\nname: me", 5, "there is no key name here", "remove it"),
        (TRIGGER + "expects: [a]", 5, "there is no key expects here", "did you mean expect?"),
        (TRIGGER + f"id: {UUID(int=0)}", 5, "there is no key id here", "remove it"),
        (TRIGGER + "type: metric", 4, "only Prefect Cloud has the trigger metric", "compound"),
        (TRIGGER + "posture: Metric", 4, "only Prefect Cloud has the trigger metric", "event"),
        (TRIGGER + "type: [a]", 4, "there is no trigger", "use one of: compound, event, sequence"),
        (TRIGGER + "threshold: many", 5, "threshold: Input should be a valid integer", ""),
        (
            TRIGGER + "threshold: 0",
            5,
            "with threshold 0 a Proactive trigger never fires",
            "set it to 1 or more",
        ),
        (TRIGGER + "within: 90s", 5, "within: 90s is not a duration", "PT90S"),
        (TRIGGER + "within: yes", 5, "within: yes is not a duration", "PT90S"),
        (TRIGGER + "within: -1", 5, "within: Input should be greater than or equal to", ""),
        (TRIGGER + "posture: Proactive\n  within: 9", 4, "`within` for Proactive", ""),
        (TRIGGER + "expect: ['!a']", 5, "no event ever matches !a", "use *"),
        (TRIGGER + "after: ['a.[bc]']", 5, "no event ever matches a.[bc]", "use *"),
        (TRIGGER + "match: 5", 5, "match is not a mapping", "write `KEY: VALUE` lines"),
        (TRIGGER + "match: {owner: 5}", 5, "the value of a label is not text", "in quotes"),
        (TRIGGER + "match: {owner: []}", 5, "no resource ever matches an empty list", ""),
        (
            TRIGGER + "match: {a: {deployment: daily}}",
            5,
            "deployment daily does not have",
            "FLOW/NAME",
        ),
        (TRIGGER + "match: {a: {flow: daily}}", 5, "the value of a label is not text", ""),
        (TRIGGER + f"match: {{a: prefect.deployment.{UUID(int=0)}}}", 5, "one server", "{deploy"),
        (
            TRIGGER + "{type: compound, triggers: [], require: all}",
            5,
            "never fires",
            "add the triggers",
        ),
        (
            TRIGGER + "{type: sequence, triggers: [{}], within: 0}",
            5,
            "within is not positive",
            "remove within",
        ),
        (TRIGGER + "{type: sequence, triggers: [{idd: 1}]}", 5, "no key idd here", ""),
        (TRIGGER + "{type: sequence}", 4, "the key triggers is missing", "add it"),
        (TRIGGER + "{type: compound, triggers: [{}], require: 2}", 4, "less than or equal", ""),
        (ACTION + "type: do-it", 5, "there is no action do-it", "use one of: call-webhook, "),
        (ACTION + "type: declare-incident", 5, "only Prefect Cloud has the action", "use one of"),
        (ACTION + "block: a/b", 5, "the action has no type", "set type to one of: "),
        (ACTION + "{type: do-nothing, x: 1}", 5, "there is no key x here", "remove it"),
        (ACTION + "{type: pause-deployment}", 5, "names no deployment", "source: inferred"),
        (ACTION + "{type: pause-work-pool}", 5, "names no work pool", "add work_pool: NAME"),
        (ACTION + "{type: call-webhook}", 5, "call-webhook names no block", "add block: TYPE/NAME"),
        (
            ACTION + "{type: pause-automation, automation: a, source: inferred}",
            5,
            "both names the automation and infers it from the event",
            "remove automation",
        ),
        (
            ACTION + f"{{type: pause-deployment, deployment_id: {UUID(int=0)}}}",
            5,
            "there is no key deployment_id here",
            "write deployment: FLOW/NAME",
        ),
        (
            ACTION + f"{{type: resume-work-pool, work_pool: <deleted {UUID(int=0)}>}}",
            5,
            "no longer exists",
            "name one that exists",
        ),
        (ACTION + "{type: call-webhook, block: hook}", 5, "block hook does not have", "TYPE/NAME"),
        (ACTION + "{type: call-webhook, block: 5}", 5, "block is not a name", "TYPE/NAME"),
        (
            ACTION + "{type: send-notification, block: a/b, body: '{{ x'}",
            5,
            "body: 'body' is not a valid template",
            "",
        ),
        (
            ACTION + "{type: call-webhook, block: a/b, payload: '{% for %}'}",
            5,
            "payload: 'payload' is not a valid template",
            "",
        ),
        (
            ACTION + "{type: run-deployment, deployment: a/b, parameters: {x: '{{ y'}}",
            5,
            "parameters: Invalid parameters",
            "",
        ),
        (
            ACTION + "{type: run-deployment, deployment: a/b, parameters: {x: .nan}}",
            5,
            "x: Input should be a finite number",
            "",
        ),
        (
            ACTION + "{type: run-deployment, deployment: a/b, parameters: {x: [2013-01-01]}}",
            5,
            "input was not a valid JSON value",
            "",
        ),
        (
            "actions: [{type: run-deployment, source: inferred}]\n"
            "trigger: {expect: [prefect.flow-run.Running]}",
            2,
            "infinite loop",
            "",
        ),
        (
            "trigger: {}\nactions: []\nactions_on_resolve:\n  - type: do-nothing",
            5,
            "actions_on_resolve never run",
            "expects the event of the recovery",
        ),
        (
            "trigger: {}\nactions: []\nactions_on_trigger:\n"
            "  - {type: pause-work-queue, source: inferred}",
            6,
            "cannot infer a work queue",
            "move it to actions",
        ),
    ],
)
def test_a_mistake_is_refused_with_the_line_cause_and_fix(
    tmp_path: Path, automation: str, line: int, cause: str, fix: str
) -> None:
    ((found_line, found_cause, found_fix),) = refused(tmp_path, automation)

    assert cause in found_cause
    assert fix in found_fix
    assert found_line == line


def test_all_mistakes_are_reported_together(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        """
automations:
  one:
    trigger:
      type: compound
      require: 1
      triggers:
        - {expct: [a]}
        - {threshold: 0, within: 90s}
    actions:
      - type: pause-deployment
        source: chosen
      - {type: do-it}
    nam: x
  two: 5
  3: {}
""",
    )

    assert [each.at.line for each in found] == [8, 9, 9, 11, 12, 13, 14, 15, 16]


def pausing(tmp_path: Path, **paused: str) -> list[Declared]:
    """Return automations that each pause another one, which makes them need it."""
    actions = "".join(
        f"  {name}: {{trigger: {{}}, actions: [{{type: pause-automation, automation: {other}}}]}}\n"
        for name, other in paused.items()
    )
    return declared(tmp_path, "automations:\n" + actions)


@pytest.mark.parametrize(
    ("paused", "line", "chain"),
    [
        ({"a": "a"}, 2, "automation a → automation a"),
        (
            {"x": "b", "c": "a", "a": "b", "b": "c"},
            4,
            "automation a → automation b → automation c → automation a",
        ),
    ],
)
def test_a_dependency_cycle_is_refused_and_shown(
    tmp_path: Path, paused: dict[str, str], line: int, chain: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        in_order(pausing(tmp_path, **paused))

    (problem,) = refused.value.problems
    assert problem.at.line == line
    assert problem.cause.endswith(f": {chain}")


def test_an_automation_comes_after_those_that_it_needs(tmp_path: Path) -> None:
    chain = in_order(pausing(tmp_path, a="b", b="of-the-server", c="b"))

    assert [each.key.name for each in chain] == ["b", "a", "c"]


# These tests fail when a new version of Prefect has something that the code does not know.


def names_of(union: object) -> set[str]:
    return {model.model_fields["type"].default for model in get_args(union)}


def test_every_trigger_and_action_of_prefect_is_known() -> None:
    client_triggers = {model.model_fields["type"].default for model in _models(client.TriggerTypes)}

    assert TRIGGERS.keys() | CLOUD_ONLY >= client_triggers
    assert client_triggers - TRIGGERS.keys() == {"metric"}
    assert names_of(ClientActionTypes) - ACTIONS.keys() == {"declare-incident"}
    assert names_of(ClientActionTypes) >= ACTIONS.keys()


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    """Yield the models anywhere inside an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)


@pytest.mark.parametrize("model", [*TRIGGERS.values(), *ACTIONS.values()])
def test_every_id_field_has_a_name_and_only_triggers_are_nested(model: type[BaseModel]) -> None:
    for name, field in fields_of(model).items():
        assert UUID not in (field.annotation, *get_args(field.annotation)) or (
            name in ID_FIELDS.values()
        )
        inside = set(_models(field.annotation)) - {ResourceSpecification}
        assert not inside or name == "triggers"


def test_all_free_form_fields_are_known() -> None:
    assert {
        name
        for model in ACTIONS.values()
        for name, field in model.model_fields.items()
        if Any in {each for inside in get_args(field.annotation) for each in get_args(inside)}
    } == FREE_FORM


def test_all_lists_of_actions_are_known() -> None:
    assert set(ACTION_LISTS) == {
        name
        for name, field in server.AutomationCore.model_fields.items()
        if set(ACTIONS.values()) <= set(_models(field.annotation))
    }


@pytest.mark.parametrize("kind", TRIGGERS)
def test_defaults_that_only_the_client_has_are_known(kind: str) -> None:
    at_client = {m.model_fields["type"].default: m for m in _models(client.TriggerTypes)}[kind]
    added = {
        name: at_client.model_fields[name].get_default(call_default_factory=True)
        for name, field in TRIGGERS[kind].model_fields.items()
        if field.is_required() and not at_client.model_fields[name].is_required()
    }

    assert added.items() <= CLIENT_DEFAULTS.items()


# These tests show with Prefect's own code why automation_pitfalls refuses an automation.


def event(name: str, **labels: str) -> ReceivedEvent:
    return ReceivedEvent(
        occurred=TypeAdapter(DateTime).validate_python(now("UTC")),
        event=name,
        resource={"prefect.resource.id": "orders", **labels},
        id=uuid4(),
    )


@pytest.mark.parametrize("expect", ["!orders.lost", "orders.[r]*", "orders.receive?"])
def test_the_asterisk_is_the_only_wildcard_for_events_in_prefect(expect: str) -> None:
    def covers(pattern: str) -> bool:
        return server.EventTrigger(posture="Reactive", expect={pattern}).covers(
            event("orders.received")
        )

    assert covers("orders.*")
    assert not covers(expect)


def test_an_empty_list_matches_nothing_in_prefect() -> None:
    def covers(value: list[str]) -> bool:
        return server.EventTrigger(posture="Reactive", match={"owner": value}).covers(
            event("orders.received", owner="me")
        )

    assert covers(["me"])
    assert not covers([])


def test_a_threshold_below_one_never_fires_in_prefect() -> None:
    def fires(threshold: int) -> bool:
        trigger = server.EventTrigger(posture="Proactive", threshold=threshold)
        return trigger.meets_threshold(0)

    assert fires(1)
    assert not fires(0)


def test_prefect_does_not_load_an_automation_without_event_triggers() -> None:
    def loaded(children: list[server.EventTrigger]) -> bool:
        trigger = server.SequenceTrigger(triggers=children, within=None)
        automation = server.Automation(name="a", trigger=trigger, actions=[])
        triggers.load_automation(automation)
        found = automation.id in triggers.automations_by_id
        triggers.forget_automation(automation.id)
        return found

    assert loaded([server.EventTrigger(posture="Reactive")])
    assert not loaded([])


def test_prefect_never_resolves_a_trigger() -> None:
    calls = [
        call
        for call in ast.walk(ast.parse(inspect.getsource(triggers)))
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "Firing"
    ]

    assert calls
    assert {
        ast.unparse(keyword.value)
        for call in calls
        for keyword in call.keywords
        if keyword.arg == "trigger_states"
    } == {"{TriggerState.Triggered}"}


def test_an_automations_own_event_names_no_resource_to_infer() -> None:
    trigger = server.EventTrigger(posture="Reactive", within=timedelta(0))
    automation = server.Automation(name="a", trigger=trigger, actions=[])
    firing = server.Firing(
        trigger=automation.trigger,
        trigger_states={server.TriggerState.Triggered},
        triggered=TypeAdapter(DateTime).validate_python(now("UTC")),
        triggering_event=event("orders.received"),
    )
    firing.trigger = automation.trigger  # validation made a copy without the automation

    own = automation.trigger.create_automation_state_change_event(
        firing, server.TriggerState.Triggered
    )

    assert {each.id.rpartition(".")[0] for each in own.involved_resources} == {
        "prefect.automation",
        "prefect.event",
    }


# The schema for editors.


VALIDATOR = jsonschema.Draft202012Validator(json_schema())


def accepts(automation: dict[str, Any]) -> bool:
    return bool(VALIDATOR.is_valid({"mine": automation}))


def test_the_schema_is_a_valid_json_schema() -> None:
    VALIDATOR.check_schema(VALIDATOR.schema)


@settings(deadline=None)  # a busy machine may be slow
@given(strategies.automations())
def test_the_schema_accepts_valid_and_exported_automations(
    automation: strategies.Automation,
) -> None:
    (exported,) = Automations().declare(strategies.source({"mine": automation}), Offline())

    assert accepts(automation)
    assert accepts(dict(exported.body))


@pytest.mark.parametrize(
    "automation",
    [
        {"actions": []},
        {"trigger": {}},
        {"trigger": {}, "actions": [], "name": "x"},
        {"trigger": {}, "actions": [], "owner_resource": "x"},
        {"trigger": {"id": str(UUID(int=0))}, "actions": []},
        {"trigger": {"expects": ["a"]}, "actions": []},
        {"trigger": {"type": "sequence", "triggers": [{"expects": ["a"]}]}, "actions": []},
        {"trigger": {"type": "sequence", "triggers": []}, "actions": []},
        {"trigger": {"type": "metric"}, "actions": []},
        {"trigger": {"threshold": 0}, "actions": []},
        {"trigger": {"match": {"owner": []}}, "actions": []},
        {"trigger": {"match": {"owner": {"flow": "a"}}}, "actions": []},
        {"trigger": {"match": {"owner": {"deployment": "a"}}}, "actions": []},
        {"trigger": {}, "actions": [{}]},
        {"trigger": {}, "actions": [{"type": "do-nothing", "x": 1}]},
        {"trigger": {}, "actions": [{"type": "declare-incident"}]},
        {"trigger": {}, "actions": [{"type": "call-webhook"}]},
        {"trigger": {}, "actions": [{"type": "pause-deployment"}]},
        {"trigger": {}, "actions": [{"type": "pause-deployment", "deployment": "daily"}]},
        {"trigger": {}, "actions": [{"type": "pause-work-pool", "work_pool": "<deleted x>"}]},
        {
            "trigger": {},
            "actions": [{"type": "pause-deployment", "deployment_id": str(UUID(int=0))}],
        },
        {
            "trigger": {},
            "actions": [{"type": "pause-work-pool", "source": "inferred", "work_pool": "a"}],
        },
        {"trigger": {}, "actions": [], "actions_on_resolve": [{"type": "do-nothing"}]},
    ],
)
def test_the_schema_refuses_invalid_automations(automation: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Automations().declare(strategies.source({"mine": automation}), Offline())

    assert not accepts(automation)
