"""An invalid file is refused with the line, the cause and the fix."""

from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from prefect_platform.configuration.core.source import ConfigurationError, read
from prefect_platform.errors import PlatformError


class _Limit(BaseModel):
    model_config = ConfigDict(extra="forbid")
    limit: int


def refused(path: Path) -> str:
    """Return the error message of reading the file."""
    with pytest.raises(ConfigurationError) as error:
        read(path)
    return error.value.message


def test_every_part_of_a_file_has_its_line_number(tmp_path: Path) -> None:
    path = tmp_path / "platform.yaml"
    path.write_text("a:\n  b:\n    - x\n    - y: 1\n\nc: 2\n")
    source = read(path)
    assert source.data == {"a": {"b": ["x", {"y": 1}]}, "c": 2}
    assert [source.at(*steps).line for steps in (("a",), ("a", "b", 1, "y"), ("c",))] == [1, 4, 6]
    assert source.at("a", "nowhere", 3).line == 1


@pytest.mark.parametrize(
    ("text", "line", "cause"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, 'duplicate key "a"'),
        ("a:\n  - 1\n b: 2\n", 3, "block end"),
        ("a: &a\n  - *a\n", 1, "an alias contains itself"),
        ("a: *nobody\n", 1, "undefined alias"),
        ("a: \x07\n", 1, "the file cannot be parsed"),
        ("? [a, b]\n: 1\n", 1, "the file cannot be parsed"),
        ("a: ._\n", 1, "the file cannot be parsed"),
    ],
)
def test_invalid_yaml_is_refused_with_the_line_number(
    tmp_path: Path, text: str, line: int, cause: str
) -> None:
    path = tmp_path / "platform.yaml"
    path.write_text(text)
    message = refused(path)
    assert f"{path}:{line}: " in message
    assert cause in message


def test_the_values_of_a_duplicate_key_are_not_printed(tmp_path: Path) -> None:
    path = tmp_path / "platform.yaml"
    path.write_text("token: hunter2\ntoken: hunter3\n")
    assert "hunter" not in refused(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match=r"nobody\.yaml cannot be read: No such file"):
        read(tmp_path / "nobody.yaml")


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "platform.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    assert "not UTF-8" in refused(path)


def test_a_pydantic_error_is_reported_with_the_line_number(tmp_path: Path) -> None:
    path = tmp_path / "platform.yaml"
    path.write_text("limits:\n  a:\n    limit: many\n    slots: 3\n  b: {}\n")
    source = read(path)
    found = []
    for name, raw in source.data["limits"].items():
        with pytest.raises(ValidationError) as error:
            _Limit.model_validate(raw)
        found += source.problems(error.value, "limits", name)
    assert [(problem.at.line, problem.cause) for problem in found] == [
        (3, "limit: Input should be a valid integer, unable to parse string as an integer"),
        (4, "there is no key slots here"),
        (5, "the key limit is missing"),
    ]
