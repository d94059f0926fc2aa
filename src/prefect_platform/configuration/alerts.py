"""Alerts: the pack of automations, and the channels that hear of each severity.

The section becomes blocks and automations as other sections declare them.
"""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError

from prefect_platform.configuration.automation_pack import PACK, Member, Severity, name
from prefect_platform.configuration.section import Section
from prefect_platform.configuration.source import ConfigurationError, Problem, Source, Step

ChannelType = Literal["slack", "teams", "pagerduty", "email", "webhook"]
_BLOCK_TYPES: dict[ChannelType, str] = {
    "slack": "slack-webhook",
    "teams": "ms-teams-webhook",
    "pagerduty": "pager-duty-webhook",
    "email": "email",
    "webhook": "custom-webhook",
}
_PAGERDUTY = {"notify_type": "failure"}  # by default it pages somebody with an "info"
_WEBHOOK = {"json_data": {"subject": "{{subject}}", "body": "{{body}}"}}


class Channel(Section):
    """Where messages go: its type, and the fields of the block of that type."""

    model_config = ConfigDict(extra="allow")

    type: ChannelType
    """slack (url), teams (url), pagerduty (integration_key, api_key), email (host, sender,
    recipients, ...) or webhook (url, headers, ...). Secret fields are references."""


class Chosen(Section):
    """What one automation of the pack has otherwise than by default."""

    enabled: bool = True
    """false: it is not created."""
    severity: Severity | None = None
    """Which channels hear of it."""
    within: Annotated[int, Field(ge=10)] | None = None
    """Its bound in seconds, for those that have one."""
    threshold: Annotated[int, Field(ge=1)] | None = None
    """How many failures within the bound, for repeated-failure."""


class Alerts(Section):
    """Who is told what."""

    channels: dict[str, Channel] = Field(default_factory=dict)
    """Channels by name."""
    severities: dict[Severity, list[str]] = Field(default_factory=dict)
    """The channels that hear of each severity."""
    automations: dict[str, Chosen] = Field(default_factory=dict)
    """What single automations of the pack have otherwise; all of them are on by default."""
    enabled: bool = True
    """false: no automation of the pack is created; the channels are."""


def expand(source: Source, section: str) -> Source:
    """Return the blocks and automations of the section, as a file would declare them.

    Their lines are those of the section. Raises ConfigurationError.
    """
    try:
        alerts = Alerts.model_validate((source.data or {}).get(section) or {})
    except ValidationError as error:
        raise ConfigurationError(source.problems(error, section)) from None
    if problems := [
        *_wrong_channels(source, section, alerts),
        *_wrong_bounds(source, section, alerts),
    ]:
        raise ConfigurationError(problems)
    lines: dict[tuple[Step, ...], int] = {(): source.at(section).line}
    blocks: dict[str, Any] = {}
    for channel_name, channel in alerts.channels.items():
        block = _block(channel_name, channel)
        blocks[block] = _fields(channel_name, channel)
        origin = (section, "channels", channel_name)
        for steps, line in source.lines.items():
            if steps[:3] == origin:
                lines["blocks", block, *steps[3:]] = line
    automations = {
        name(member): _automation(member, alerts)
        for member in PACK
        if alerts.enabled and alerts.automations.get(member, Chosen()).enabled
    }
    return Source(source.path, {"blocks": blocks, "automations": automations}, lines)


def _block(channel_name: str, channel: Channel) -> str:
    return f"{_BLOCK_TYPES[channel.type]}/alerts-{channel_name}"


def _fields(channel_name: str, channel: Channel) -> dict[str, Any]:
    given = dict(channel.model_extra or {})
    if channel.type == "webhook":
        return {"name": channel_name, **_WEBHOOK, **given}
    if channel.type == "pagerduty":
        return {**_PAGERDUTY, **given}
    return given


def _automation(member_name: str, alerts: Alerts) -> dict[str, Any]:
    member, chosen = PACK[member_name], alerts.automations.get(member_name, Chosen())
    made = member.make(
        chosen.within or member.within or 0, chosen.threshold or member.threshold or 1
    )
    severity = chosen.severity or member.severity
    actions = made["actions"] + [
        {
            "type": "send-notification",
            "block": _block(channel, alerts.channels[channel]),
            "subject": f"[{severity}] {member.subject}",
            "body": member.body,
        }
        for channel in (() if member.silent else alerts.severities.get(severity, ()))
    ]
    return {
        "description": f"Of the platform's pack, severity {severity}.",
        **made,
        "actions": actions or [{"type": "do-nothing"}],
    }


def _wrong_channels(source: Source, section: str, alerts: Alerts) -> list[Problem]:
    problems = []
    heard: set[str] = set()
    for severity, channels in alerts.severities.items():
        for index, channel in enumerate(channels):
            heard.add(channel)
            if channel not in alerts.channels:
                known = ", ".join(sorted(alerts.channels)) or "none"
                problems.append(
                    Problem(
                        source.at(section, "severities", severity, index),
                        f"there is no channel {channel}",
                        f"the channels are {known}",
                    )
                )
    problems += [
        Problem(
            source.at(section, "channels", channel),
            f"no severity names the channel {channel}: it would stay silent",
            "name it in severities, or remove it",
        )
        for channel in alerts.channels
        if channel not in heard
    ]
    return problems


def _wrong_bounds(source: Source, section: str, alerts: Alerts) -> list[Problem]:
    problems = []
    for chosen_name, chosen in alerts.automations.items():
        at = source.at(section, "automations", chosen_name)
        member: Member | None = PACK.get(chosen_name)
        if member is None:
            fix = f"there are {', '.join(PACK)}"
            problems.append(Problem(at, f"the pack has no automation {chosen_name}", fix))
            continue
        for bound in ("within", "threshold"):
            if getattr(chosen, bound) is not None and getattr(member, bound) is None:
                cause = f"{chosen_name} has no {bound}: it acts at once"
                problems.append(Problem(at, cause, "remove it"))
    return problems
