"""The section `alerts` becomes blocks and automations, or is refused with its lines."""

from pathlib import Path

import pytest
from prefect.server.events.schemas.automations import AutomationCore

from prefect_platform.configuration import alerts, automations, blocks
from prefect_platform.configuration.automation_pack import PACK, name
from prefect_platform.configuration.resource import Declared
from prefect_platform.configuration.source import ConfigurationError, Source, read
from prefect_platform.configuration.surroundings import Offline

_CHANNELS = """
alerts:
  channels:
    ops: {type: slack, url: {secret: {name: alerts, key: slack}}}
    oncall:
      type: pagerduty
      integration_key: {secret: {name: alerts, key: routing}}
      api_key: {secret: {name: alerts, key: api}}
    mail:
      type: email
      host: mail.example.org
      sender: prefect@example.org
      recipients: [ops@example.org]
    hook: {type: webhook, url: "https://example.org/hook"}
    chat: {type: teams, url: {secret: {name: alerts, key: teams}}}
  severities:
    critical: [oncall, mail, chat]
    warning: [ops, hook]
"""


def expand(tmp_path: Path, text: str) -> Source:
    """Return what the section becomes."""
    (tmp_path / "platform.yaml").write_text(text)
    return alerts.expand(read(tmp_path / "platform.yaml"), "alerts")


def declared(source: Source) -> dict[str, Declared]:
    """Return the blocks and automations by name, as the other sections read them."""
    found = [
        *blocks.declare(source, "blocks", Offline()),
        *automations.declare(source, "automations", Offline()),
    ]
    return {each.key.name: each for each in found}


def channels_of(automation: Declared) -> list[str]:
    """Return the blocks that an automation notifies."""
    return [str(each["block"]) for each in automation.body["actions"] if "block" in each]


def test_every_channel_is_a_block_and_hears_of_its_severity(tmp_path: Path) -> None:
    found = declared(expand(tmp_path, _CHANNELS))
    critical = [
        "pager-duty-webhook/alerts-oncall",
        "email/alerts-mail",
        "ms-teams-webhook/alerts-chat",
    ]
    warning = ["slack-webhook/alerts-ops", "custom-webhook/alerts-hook"]
    assert {*critical, *warning} <= found.keys()
    assert channels_of(found[name("crashed")]) == critical
    assert channels_of(found[name("late")]) == warning
    assert found["slack-webhook/alerts-ops"].at.line == 4


def test_without_a_channel_the_pack_is_on_and_tells_nobody(tmp_path: Path) -> None:
    found = declared(expand(tmp_path, "variables: {}\n"))
    assert found.keys() == {name(member) for member in PACK}
    assert all(channels_of(each) == [] for each in found.values())
    (crash,) = found[name("zombie")].body["actions"]
    assert crash["state"] == "CRASHED"


def test_what_acts_tells_nobody_since_the_crash_has_an_alert(tmp_path: Path) -> None:
    found = declared(expand(tmp_path, _CHANNELS))
    for member in ("zombie", "stuck-pending"):
        assert channels_of(found[name(member)]) == []


def test_a_bound_a_severity_and_a_switch_can_be_chosen(tmp_path: Path) -> None:
    text = """
  automations:
    zombie: {within: 300}
    late: {severity: critical}
    unschedulable: {enabled: false}
    repeated-failure: {threshold: 5, within: 600}
"""
    found = declared(expand(tmp_path, _CHANNELS + text))
    assert found[name("zombie")].body["trigger"]["within"] == 300
    assert "for 300 s" in found[name("zombie")].body["actions"][0]["message"]
    assert "email/alerts-mail" in channels_of(found[name("late")])
    assert name("unschedulable") not in found
    trigger = found[name("repeated-failure")].body["trigger"]
    assert (trigger["threshold"], trigger["within"]) == (5, 600)


@pytest.mark.parametrize("member", PACK)
def test_every_message_is_a_template_that_prefect_takes(tmp_path: Path, member: str) -> None:
    raw = expand(tmp_path, _CHANNELS).data["automations"][name(member)]
    block = "00000000-0000-0000-0000-000000000000"
    for action in raw["actions"]:
        if "block" in action:
            action["block_document_id"] = block
    core = AutomationCore.model_validate({"name": member, **raw})
    assert len(core.actions) == len(raw["actions"])


@pytest.mark.parametrize(
    ("text", "line", "cause"),
    [
        ("alerts:\n  severities: {critical: [ops]}\n", 2, "there is no channel ops"),
        (
            "alerts:\n  channels:\n    a: {type: webhook, url: x}\n",
            3,
            "no severity names the channel a",
        ),
        ("alerts:\n  automations:\n    zombies: {}\n", 3, "no automation zombies"),
        ("alerts:\n  automations:\n    crashed: {within: 60}\n", 3, "crashed has no within"),
        ("alerts:\n  automations:\n    late: {within: 5}\n", 3, "within: Input should be"),
        ("alerts:\n  channel: {}\n", 2, "there is no key channel"),
    ],
)
def test_a_mistake_is_refused_with_its_line(
    tmp_path: Path, text: str, line: int, cause: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        expand(tmp_path, text)
    assert [(each.at.line, cause in each.cause) for each in refused.value.problems] == [
        (line, True)
    ]
