"""The section `alerts` expands to blocks and automations; mistakes are reported by line."""

from pathlib import Path
from uuid import uuid4

import pytest
from prefect.server.events.actions import SendNotification
from prefect.server.events.schemas.automations import AutomationCore, EventTrigger, Posture

from prefect_platform.configuration.automations.alerts import expand
from prefect_platform.configuration.automations.automation_pack import PACK
from prefect_platform.configuration.core import source
from prefect_platform.configuration.core.source import ConfigurationError, Source

_NAMES = [
    *("platform: zombie", "platform: stuck-pending", "platform: crashed"),
    *("platform: late", "platform: no-slot", "platform: image-pull"),
    "platform: out-of-memory",
    *("platform: unschedulable", "platform: repeated-failure", "platform: work-pool-not-ready"),
    "platform: delivery-failed",
]
_CHANNELS = """
alerts:
  channels:
    ops: {type: slack, url: {secret: {name: alerts, key: slack-url}}}
    hook: {type: webhook, url: "https://example.org"}
    oncall: {type: pagerduty, integration_key: x, api_key: y}
    form: {type: webhook, url: "https://example.org", name: own, form_data: {text: "{{subject}}"}}
  severities:
    critical: [ops, hook]
    warning: [form, oncall]
"""


def expanded(tmp_path: Path, text: str) -> Source:
    path = tmp_path / "platform.yaml"
    path.write_text(text)
    return expand(source.read(path), "alerts")


def problems(tmp_path: Path, text: str) -> list[tuple[int, str]]:
    with pytest.raises(ConfigurationError) as refused:
        expanded(tmp_path, text)
    return [(each.at.line, f"{each.cause}; {each.fix}") for each in refused.value.problems]


@pytest.mark.parametrize("text", ["", "alerts:", "alerts: {}", "variables: {}"])
def test_without_channels_the_pack_is_complete_and_acts_on_no_run(
    tmp_path: Path, text: str
) -> None:
    made = expanded(tmp_path, text).data
    assert made["blocks"] == {}
    assert list(made["automations"]) == _NAMES
    actions = [each["actions"] for each in made["automations"].values()]
    assert actions == [[{"type": "do-nothing"}]] * len(_NAMES)


def test_a_channel_becomes_a_block_of_its_type_with_its_fields(tmp_path: Path) -> None:
    made = expanded(tmp_path, _CHANNELS)
    assert made.data["blocks"] == {
        "slack-webhook/alerts-ops": {"url": {"secret": {"name": "alerts", "key": "slack-url"}}},
        "custom-webhook/alerts-hook": {
            "name": "hook",
            "url": "https://example.org",
            "json_data": {"subject": "{{subject}}", "body": "{{body}}"},
        },
        "pager-duty-webhook/alerts-oncall": {
            "integration_key": "x",
            "api_key": "y",
            "notify_type": "failure",
        },
        "custom-webhook/alerts-form": {
            "name": "own",
            "url": "https://example.org",
            "form_data": {"text": "{{subject}}"},
        },
    }
    assert made.at("blocks", "slack-webhook/alerts-ops", "url").line == 4
    assert made.at("blocks", "custom-webhook/alerts-hook").line == 5
    # Source.problems looks up a line from the outside in, so every parent needs a line.
    assert all(steps[:-1] in made.lines for steps in made.lines)
    assert made.at("automations", "platform: zombie").line == 2


def test_an_automation_notifies_the_channels_of_its_default_or_chosen_severity(
    tmp_path: Path,
) -> None:
    text = _CHANNELS + "  automations: {late: {severity: critical}, zombie: {enabled: false}}\n"
    made = expanded(tmp_path, text).data["automations"]

    def notified_by(member: str) -> list[tuple[str, str]]:
        return [
            (each["block"], each["subject"].partition(" ")[0])
            for each in made[f"platform: {member}"]["actions"]
            if each["type"] == "send-notification"
        ]

    critical = [
        ("slack-webhook/alerts-ops", "[critical]"),
        ("custom-webhook/alerts-hook", "[critical]"),
    ]
    assert notified_by("crashed") == notified_by("late") == critical
    assert (
        notified_by("unschedulable")
        == notified_by("stuck-pending")
        == [
            ("custom-webhook/alerts-form", "[warning]"),
            ("pager-duty-webhook/alerts-oncall", "[warning]"),
        ]
    )
    assert [name for name in _NAMES if name not in made] == ["platform: zombie"]


def test_prefect_accepts_the_pack_and_the_triggers_use_the_chosen_bounds(tmp_path: Path) -> None:
    text = _CHANNELS + "  automations: {repeated-failure: {within: 60, threshold: 7}}\n"
    for name, automation in expanded(tmp_path, text).data["automations"].items():
        actions = [
            {key: value for key, value in each.items() if key != "block"}
            | ({"block_document_id": uuid4()} if "block" in each else {})
            for each in automation["actions"]
        ]
        valid = AutomationCore.model_validate({"name": name, **automation, "actions": actions})
        assert isinstance(valid.trigger, EventTrigger)
        assert any(isinstance(each, SendNotification) for each in valid.actions)
        if valid.trigger.posture is Posture.Proactive:
            # Otherwise Prefect would not restart the timer, see automation_pack.
            assert all(valid.trigger.expects(event) for event in valid.trigger.after)
        member = PACK.get(name.removeprefix("platform: "))
        if member and member.within and name != "platform: repeated-failure":
            assert valid.trigger.within.total_seconds() == member.within
        if name == "platform: repeated-failure":
            assert (valid.trigger.within.total_seconds(), valid.trigger.threshold) == (60, 7)
            assert automation["actions"][0]["body"].startswith("7 runs of ")


def test_every_mistake_is_reported_with_its_line_number(tmp_path: Path) -> None:
    text = """
alerts:
  channels:
    ops: {type: slack, url: x}
    deaf: {type: slack, url: x}
  severities:
    critical: [ops, opps]
    warning: [ops, ops]
  automations:
    zombi: {enabled: false}
    crashed: {within: 60}
    late:
      threshold: 2
blocks:
  slack-webhook/alerts-ops: {url: x}
automations:
  "platform: late": {}
"""
    assert problems(tmp_path, text) == [
        (
            5,
            "no severity lists the channel deaf, so it would never get a message; "
            "list it under severities, or remove it",
        ),
        (7, "there is no channel opps; use one of: ops, deaf"),
        (8, "warning lists ops twice: it would get each message twice; remove one"),
        (10, f"the pack has no automation zombi; use one of: {', '.join(PACK)}"),
        (11, "the automation crashed has no setting within; remove it"),
        (13, "the automation late has no setting threshold; remove it"),
        (15, "slack-webhook/alerts-ops is generated from the section alerts; choose another name"),
        (17, "platform: late is generated from the section alerts; choose another name"),
    ]


@pytest.mark.parametrize(
    ("alerts", "cause"),
    [
        ("{channel: {}}", "there is no key channel here"),
        ("{channels: {ops: {type: telegram}}}", "type: Input should be 'slack', 'teams'"),
        ("{channels: {ops: {}}}", "the key type is missing"),
        ("{severities: {fatal: []}}", "fatal: Input should be 'critical' or 'warning'"),
        ("{automations: {late: {within: 9}}}", "greater than or equal to 10"),
        ("{automations: {late: {withing: 60}}}", "there is no key withing here"),
        ("[crashed]", "alerts is not a mapping"),
        ("false", "alerts is not a mapping"),
    ],
)
def test_an_alerts_section_of_the_wrong_shape_is_refused(
    tmp_path: Path, alerts: str, cause: str
) -> None:
    ((line, problem),) = problems(tmp_path, f"alerts: {alerts}\n")
    assert line == 1
    assert cause in problem
