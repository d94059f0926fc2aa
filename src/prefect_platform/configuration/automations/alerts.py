"""Alerts: the channels for each severity, and changes to the defaults of the automation pack.

The section is a short form: it is expanded to entries of the sections `blocks` and `automations`.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError

from prefect_platform.configuration.automations.automation_pack import (
    PACK,
    Automation,
    Bounds,
    Member,
    Severity,
    name,
)
from prefect_platform.configuration.core.section import Section, entries
from prefect_platform.configuration.core.source import ConfigurationError, Problem, Source, Step

ChannelType = Literal["slack", "teams", "pagerduty", "email", "webhook"]

_BLOCK_TYPES: Mapping[ChannelType, str] = {
    "slack": "slack-webhook",
    "teams": "ms-teams-webhook",
    "pagerduty": "pager-duty-webhook",
    "email": "email",
    "webhook": "custom-webhook",
}


class Channel(Section):
    """A destination of messages: its type, and the fields of the block of that type."""

    model_config = ConfigDict(extra="allow")

    type: ChannelType
    """Type of the channel, with its fields: slack and teams (url), pagerduty (integration_key,
    api_key), email (host, port, security, username, password, sender, recipients, ca_file) or
    webhook (url, headers, json_data; by default it posts {subject, body}). Secret fields have to be
    references."""


class Chosen(Section):
    """Settings of one automation of the pack that differ from its defaults."""

    enabled: bool = True
    """Whether the automation is created."""
    severity: Severity | None = None
    """Severity of the automation's messages, critical or warning, which selects their channels."""
    within: Annotated[int, Field(ge=10)] | None = None
    """Bound of the automation in seconds: how long it waits for a sign, or the period in which
    `threshold` events have to occur. At least 10."""
    threshold: Annotated[int, Field(ge=1)] | None = None
    """Number of events within that period at which the automation fires."""


class Alerts(Section):
    """Alerts: which channels receive which messages of the automation pack."""

    enabled: bool = True
    """Whether the automations of the pack are created. The channels are created in any case."""
    channels: dict[str, Channel] = Field(default_factory=dict)
    """Channels by name."""
    severities: dict[Severity, list[str]] = Field(default_factory=dict)
    """Names of the channels that receive the messages of each severity: critical and warning."""
    automations: dict[str, Chosen] = Field(default_factory=dict)
    """Settings of single automations of the pack, by name. All of them are on by default; see
    docs/operations/alerts.md."""


def expand(source: Source, section: str) -> Source:
    """Return the sections `blocks` and `automations` to which the section expands.

    Their lines are those of `section`. If the file does not have the section, the pack is created
    with its defaults and sends no notifications. Raises ConfigurationError.
    """
    try:
        alerts = Alerts.model_validate(entries(source, section))
    except ValidationError as error:
        raise ConfigurationError(source.problems(error, section)) from None
    blocks = {
        _block(channel, each.type): _fields(channel, each)
        for channel, each in alerts.channels.items()
    }
    automations = {
        name(member): _automation(member, alerts)
        for member in PACK
        if alerts.enabled and alerts.automations.get(member, Chosen()).enabled
    }
    made = {"blocks": blocks, "automations": automations}
    problems = [
        *_wrong_channels(source, section, alerts),
        *_wrong_choices(source, section, alerts),
        *_taken_names(source, made),
    ]
    if problems:
        raise ConfigurationError(problems)
    parents: list[tuple[Step, ...]] = [(), ("blocks",), ("automations",)]
    above = dict.fromkeys(parents, source.at(section).line)
    return Source(source.path, made, {**above, **_lines(source, section, alerts)})


def _block(channel: str, channel_type: ChannelType) -> str:
    return f"{_BLOCK_TYPES[channel_type]}/alerts-{channel}"


def _fields(channel: str, given: Channel) -> dict[str, Any]:
    fields = dict(given.model_extra or {})
    if given.type == "pagerduty":
        fields.setdefault("notify_type", "failure")  # Prefect's default "info" is not urgent
    if given.type == "webhook":
        fields.setdefault("name", channel)
        if "form_data" not in fields:
            fields.setdefault("json_data", {"subject": "{{subject}}", "body": "{{body}}"})
    return fields


def _automation(member_name: str, alerts: Alerts) -> Automation:
    """Return a member's automation, which notifies the channels of its severity."""
    member, chosen = PACK[member_name], alerts.automations.get(member_name, Chosen())
    bounds = _bounds(member, chosen)
    made = member.automation(bounds)
    severity = chosen.severity or member.severity
    message = member.message(bounds)
    actions = [
        {
            "type": "send-notification",
            "block": _block(channel, alerts.channels[channel].type),
            "subject": f"[{severity}] {message.subject}",
            "body": message.body,
        }
        for channel in alerts.severities.get(severity, ())
        if channel in alerts.channels
    ]
    # Prefect requires an action. Even without a channel, the automation emits its own event.
    return {**made, "actions": actions or [{"type": "do-nothing"}]}


def _bounds(member: Member, chosen: Chosen) -> Bounds:
    return Bounds(chosen.within or member.within or 0, chosen.threshold or member.threshold or 1)


def _wrong_channels(source: Source, section: str, alerts: Alerts) -> Iterator[Problem]:
    heard = {channel for channels in alerts.severities.values() for channel in channels}
    for severity, channels in alerts.severities.items():
        for index, channel in enumerate(channels):
            at = source.at(section, "severities", severity, index)
            if channel not in alerts.channels:
                known = ", ".join(alerts.channels)
                fix = f"use one of: {known}" if known else "declare it under channels"
                yield Problem(at, f"there is no channel {channel}", fix)
            elif channel in channels[:index]:
                cause = f"{severity} lists {channel} twice: it would get each message twice"
                yield Problem(at, cause, "remove one")
    for channel in alerts.channels:
        if channel not in heard:
            yield Problem(
                source.at(section, "channels", channel),
                f"no severity lists the channel {channel}, so it would never get a message",
                "list it under severities, or remove it",
            )


def _wrong_choices(source: Source, section: str, alerts: Alerts) -> Iterator[Problem]:
    for chosen_name, chosen in alerts.automations.items():
        steps = (section, "automations", chosen_name)
        member = PACK.get(chosen_name)
        if member is None:
            cause = f"the pack has no automation {chosen_name}"
            yield Problem(source.at(*steps), cause, f"use one of: {', '.join(PACK)}")
            continue
        for bound in ("within", "threshold"):
            if getattr(chosen, bound) is not None and getattr(member, bound) is None:
                cause = f"the automation {chosen_name} has no setting {bound}"
                yield Problem(source.at(*steps, bound), cause, "remove it")


def _taken_names(source: Source, made: Mapping[str, Mapping[str, Any]]) -> Iterator[Problem]:
    """Yield a problem for each resource of the file whose name the section alerts generates."""
    for kind, ours in made.items():
        own = (source.data or {}).get(kind)
        for taken in own if isinstance(own, dict) else ():
            if taken in ours:
                cause = f"{taken} is generated from the section alerts"
                yield Problem(source.at(kind, taken), cause, "choose another name")


def _lines(source: Source, section: str, alerts: Alerts) -> dict[tuple[Step, ...], int]:
    """Return the lines of the generated blocks and automations in the section `alerts`."""
    origins: dict[tuple[Step, ...], tuple[Step, ...]] = {}
    for channel, each in alerts.channels.items():
        origins[section, "channels", channel] = ("blocks", _block(channel, each.type))
    for member in alerts.automations:
        origins[section, "automations", member] = ("automations", name(member))
    return {
        (*origins[steps[:3]], *steps[3:]): line
        for steps, line in source.lines.items()
        if steps[:3] in origins
    }
