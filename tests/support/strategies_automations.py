"""Hypothesis strategies for valid automations, with every trigger and action of Prefect."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from prefect.client.schemas.objects import StateType

from prefect_platform.configuration.core.source import Source

Automation = dict[str, Any]

_TEXT = st.text("abcxyz ÄΩ-_.:!'\"\n", max_size=12)
_TEMPLATES = st.sampled_from(
    [
        "{{ flow_run.name }} is {{ flow_run.state.name }}",
        "{% for each in events %}{{ each.event }} {% endfor %}",
        "{{ flow_run|ui_url }}",
    ]
)
# No state that every run passes through: Prefect refuses those together with run-deployment.
_EVENTS = st.sampled_from(
    [
        "prefect.flow-run.Completed",
        "prefect.flow-run.Crashed",
        "prefect.flow-run.heartbeat",
        "prefect.work-pool.not-ready",
        "prefect.kubernetes.pod.*",
        "orders.received",
    ]
)
_LABELS = st.sampled_from(
    ["prefect.resource.id", "prefect.resource.name", "prefect.resource.role", "owner"]
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9) | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=6,
)
_SECONDS = st.one_of(
    st.integers(0, 90_000),
    st.floats(0, 90_000).map(lambda seconds: round(seconds, 6)),
    st.sampled_from(["PT90S", "P1DT2H", "00:01:30"]),
)
_LONG_SECONDS = st.integers(10, 90_000) | st.just("PT90S")


@dataclass(frozen=True)
class Names:
    """The resources that automations can refer to, at least one of each type."""

    deployments: Sequence[str]
    notification_blocks: Sequence[str]
    webhook_blocks: Sequence[str]
    work_pools: Sequence[str]
    work_queues: Sequence[str]
    automations: Sequence[str]


NAMES = Names(
    deployments=("etl-daily/daily", "etl-daily/hourly"),
    notification_blocks=("slack-webhook/oncall",),
    webhook_blocks=("webhook/hook",),
    work_pools=("default",),
    work_queues=("default/default", "default/urgent"),
    automations=("first", "second"),
)


def source(automations: dict[str, Automation]) -> Source:
    """Return a source file that contains only these automations, all on its first line."""
    return Source(Path("platform.yaml"), {"automations": automations}, {(): 1})


def automations(names: Names = NAMES) -> st.SearchStrategy[Automation]:
    """Return automations that are valid if resources with these names exist."""
    return st.fixed_dictionaries(
        {"trigger": triggers(names), "actions": st.lists(actions(names), max_size=4)},
        optional={
            "description": _TEXT,
            "enabled": st.booleans(),
            "tags": st.lists(_TEXT, max_size=3),
            "actions_on_trigger": st.lists(
                actions(names).filter(lambda action: action.get("source") != "inferred"),
                max_size=2,
            ),
        },
    )


def triggers(names: Names = NAMES) -> st.SearchStrategy[Any]:
    """Return event triggers, and compound and sequence triggers made of them."""
    return st.recursive(_event_triggers(names), _composites, max_leaves=4)


def actions(names: Names = NAMES) -> st.SearchStrategy[Any]:
    """Return actions of every type."""
    return st.one_of(
        _action("do-nothing"),
        _action("cancel-flow-run"),
        _action("delete-flow-run"),
        _action("suspend-flow-run"),
        _action("resume-flow-run"),
        st.fixed_dictionaries(
            {
                "type": st.just("change-flow-run-state"),
                "state": st.sampled_from([state.value for state in StateType]),
            },
            optional={
                "name": st.none() | _TEXT,
                "message": st.none() | _TEXT,
                "force": st.booleans(),
            },
        ),
        st.fixed_dictionaries(
            {
                "type": st.just("send-notification"),
                "block": st.sampled_from(names.notification_blocks),
                "body": _TEXT | _TEMPLATES,
            },
            optional={"subject": _TEXT | _TEMPLATES},
        ),
        st.fixed_dictionaries(
            {"type": st.just("call-webhook"), "block": st.sampled_from(names.webhook_blocks)},
            optional={"payload": _TEXT | _TEMPLATES},
        ),
        _selected_or_inferred(
            "run-deployment",
            "deployment",
            names.deployments,
            parameters=st.none() | st.dictionaries(_TEXT, _JSON | _TEMPLATES, max_size=3),
            job_variables=st.none() | st.dictionaries(_TEXT, _JSON, max_size=3),
            schedule_after=_SECONDS,
        ),
        *(
            _selected_or_inferred(f"{verb}-{word.replace('_', '-')}", word, named)
            for verb in ("pause", "resume")
            for word, named in (
                ("deployment", names.deployments),
                ("work_pool", names.work_pools),
                ("work_queue", names.work_queues),
                ("automation", names.automations),
            )
        ),
    )


def _action(kind: str) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries({"type": st.just(kind)})


def _selected_or_inferred(
    kind: str, word: str, named: Sequence[str], **more: st.SearchStrategy[Any]
) -> st.SearchStrategy[Any]:
    inferred = {"type": st.just(kind), "source": st.just("inferred")}
    selected = {"type": st.just(kind), word: st.sampled_from(named)}
    return st.fixed_dictionaries(inferred, optional=more) | st.fixed_dictionaries(
        selected, optional={"source": st.just("selected"), **more}
    )


def _matches(names: Names) -> st.SearchStrategy[Any]:
    references = st.one_of(
        [
            st.fixed_dictionaries({word: st.sampled_from(named)})
            for word, named in (
                ("deployment", names.deployments),
                ("block", [*names.notification_blocks, *names.webhook_blocks]),
                ("work_pool", names.work_pools),
                ("work_queue", names.work_queues),
                ("automation", names.automations),
            )
        ]
    )
    value = _TEXT | st.just("prefect.flow-run.*") | references
    return st.dictionaries(_LABELS, value | st.lists(value, min_size=1, max_size=2), max_size=3)


def _event_triggers(names: Names) -> st.SearchStrategy[Any]:
    common: dict[str, st.SearchStrategy[Any]] = {
        "match": _matches(names),
        "match_related": _matches(names) | st.lists(_matches(names), max_size=2),
        "after": st.lists(_EVENTS, max_size=3, unique=True),
        "expect": st.lists(_EVENTS, max_size=3, unique=True),
        "for_each": st.lists(_LABELS, max_size=2, unique=True),
        "threshold": st.integers(1, 9),
    }
    proactive = {"type": st.just("event"), "posture": st.just("Proactive")}
    return st.fixed_dictionaries(
        {},
        optional={
            "type": st.just("event"),
            "posture": st.just("Reactive"),
            "within": _SECONDS,
            **common,
        },
    ) | st.fixed_dictionaries(proactive, optional={"within": _LONG_SECONDS, **common})


def _composites(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    within = st.none() | _LONG_SECONDS
    inside = st.lists(inner, min_size=1, max_size=3)
    compound = inside.flatmap(
        lambda triggers: st.fixed_dictionaries(
            {
                "type": st.just("compound"),
                "triggers": st.just(triggers),
                "require": st.sampled_from(["any", "all"]) | st.integers(1, len(triggers)),
            },
            optional={"within": within},
        )
    )
    sequence = st.fixed_dictionaries(
        {"type": st.just("sequence"), "triggers": inside}, optional={"within": within}
    )
    return compound | sequence
