"""Blocks are written out with their secrets, and the schema of their type is built once."""

from typing import Any, ClassVar

from prefect.blocks.core import Block
from pydantic import SecretStr

from prefect_platform.configuration.blocks import secret_fields


class Account(Block):
    """A block type that counts how often its schema is built."""

    built: ClassVar[int] = 0

    user: str
    password: SecretStr

    @classmethod
    def model_json_schema(cls, *args: Any, **options: Any) -> dict[str, Any]:  # noqa: ANN401
        cls.built += 1
        return super().model_json_schema(*args, **options)


def written(user: str) -> tuple[str, str]:
    block = Account(user=user, password=SecretStr("sesame"))
    fields = block.model_dump(mode="json", context={"include_secrets": True})
    return fields["user"], fields["password"]


def test_the_schema_of_a_type_is_built_once_for_all_its_blocks() -> None:
    secret_fields.remember()
    secret_fields.remember()

    assert written("first") == ("first", "sesame")
    before = Account.built
    assert written("second") == ("second", "sesame")
    assert Account.built == before
