"""What may be laid over values: the same keys at every depth, and none of them required."""

from typing import Annotated, Any, get_args, get_origin

from pydantic import Field, create_model
from pydantic.fields import FieldInfo
from pydantic.json_schema import SkipJsonSchema

from prefect_platform.values import Values

_LEFT_OUT: Any = SkipJsonSchema[None]  # type: ignore[misc]  # no class to a type checker


def overrides(model: type[Values]) -> type[Values]:
    """Return `model` with every key optional, as Helm lays values over defaults.

    Maps merge, and null removes an entry of a free map; all else replaces what is below it, so
    that the items of a list stay whole.
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
        f"{model.__name__}Overrides", __base__=model, __doc__=model.__doc__, **fields
    )


def _optional(field: FieldInfo) -> object:
    """Return the type of a key that may be left out."""
    kind: Any = field.annotation
    if isinstance(kind, type) and issubclass(kind, Values):
        kind = overrides(kind)
    elif get_origin(kind) is dict:
        key, item = get_args(kind)
        kind = dict[key, item | None]  # type: ignore[valid-type]  # known at run time
    for constraint in field.metadata:
        kind = Annotated[kind, constraint]
    return kind | _LEFT_OUT
