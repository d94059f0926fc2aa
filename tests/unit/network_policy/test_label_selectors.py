"""Label selectors match as the Kubernetes API reference defines."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_policy.label_selectors import matches

_KEYS = st.sampled_from(["app", "tier"])
_VALUES = st.sampled_from(["a", "b", "c"])
_LABELS = st.dictionaries(_KEYS, _VALUES)
_EXPRESSIONS = st.one_of(
    st.fixed_dictionaries(
        {
            "key": _KEYS,
            "operator": st.sampled_from(["In", "NotIn"]),
            "values": st.lists(_VALUES, min_size=1),
        }
    ),
    st.fixed_dictionaries({"key": _KEYS, "operator": st.sampled_from(["Exists", "DoesNotExist"])}),
)
_OPPOSITE = {"In": "NotIn", "NotIn": "In", "Exists": "DoesNotExist", "DoesNotExist": "Exists"}


@given(labels=_LABELS)
def test_a_selector_without_requirements_selects_everything(labels: Mapping[str, str]) -> None:
    assert matches({}, labels)
    assert matches({"matchLabels": {}, "matchExpressions": []}, labels)


@given(labels=_LABELS, wanted=_LABELS)
def test_match_labels_requires_every_label(
    labels: Mapping[str, str], wanted: Mapping[str, str]
) -> None:
    assert matches({"matchLabels": wanted}, labels) == (wanted.items() <= labels.items())


@given(labels=_LABELS, key=_KEYS, value=_VALUES)
def test_a_match_label_is_equivalent_to_an_in_expression_with_one_value(
    labels: Mapping[str, str], key: str, value: str
) -> None:
    expression = {"key": key, "operator": "In", "values": [value]}

    assert matches({"matchLabels": {key: value}}, labels) == matches(
        {"matchExpressions": [expression]}, labels
    )


@given(labels=_LABELS, expression=_EXPRESSIONS)
def test_exactly_one_of_an_operator_and_its_opposite_matches(
    labels: Mapping[str, str], expression: Mapping[str, Any]
) -> None:
    opposite = {**expression, "operator": _OPPOSITE[expression["operator"]]}

    assert matches({"matchExpressions": [expression]}, labels) != matches(
        {"matchExpressions": [opposite]}, labels
    )


@given(labels=_LABELS, wanted=_LABELS, expressions=st.lists(_EXPRESSIONS, max_size=3))
def test_every_requirement_must_be_met(
    labels: Mapping[str, str], wanted: Mapping[str, str], expressions: list[Mapping[str, Any]]
) -> None:
    alone = [matches({"matchExpressions": [each]}, labels) for each in expressions]
    together = {"matchLabels": wanted, "matchExpressions": expressions}

    assert matches(together, labels) == (all(alone) and matches({"matchLabels": wanted}, labels))


def test_an_unknown_operator_is_an_error_and_not_a_mismatch() -> None:
    with pytest.raises(ValueError, match="Near"):
        matches({"matchExpressions": [{"key": "app", "operator": "Near"}]}, {})
