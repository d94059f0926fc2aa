"""Models of overrides of values: they have the same keys at every depth, but require none."""

from typing import Annotated, Any, get_args, get_origin

from pydantic import Field, create_model
from pydantic.fields import FieldInfo
from pydantic.json_schema import SkipJsonSchema

from prefect_platform.values import Values

_LEFT_OUT: Any = SkipJsonSchema[None]  # type: ignore[misc]  # a type checker does not see a class


def overrides(model: type[Values]) -> type[Values]:
    """Return `model` with every key optional, for values that Helm merges into defaults.

    Maps are merged, and null removes an entry of a free-form map. Everything else replaces the
    default, so the items of a list keep their required keys.
    """
    fields: dict[str, Any] = {
        name: (
            _optional(field),
            Field(
                default=None,
                description=field.description,
                json_schema_extra=field.json_schema_extra,
            ),
        )
        for name, field in model.model_fields.items()
    }
    return create_model(
        f"{model.__name__}Overrides",
        __base__=model,
        __doc__=model.__doc__,
        # The fields are described already, and the search for their docstrings is slow.
        __cls_kwargs__={"use_attribute_docstrings": False},
        **fields,
    )


def _optional(field: FieldInfo) -> object:
    """Return the type of a field that may be left out."""
    kind: Any = field.annotation
    if isinstance(kind, type) and issubclass(kind, Values):
        kind = overrides(kind)
    elif get_origin(kind) is dict:
        key, item = get_args(kind)
        kind = dict[key, item | None]  # type: ignore[valid-type]  # known at run time
    for constraint in field.metadata:
        kind = Annotated[kind, constraint]
    return kind | _LEFT_OUT
