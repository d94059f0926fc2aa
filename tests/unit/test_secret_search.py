"""The search for secrets finds them in every form, says where, and never prints them."""

import base64
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support import executed_commands
from tests.support.secret_search import Secret, files, in_base64, search

PASSWORD = "k-9_Zq0/x+1=ü>>>???~~~ of the tests"
PART = "k-9_Zq0x1-of-the-tests"
WRITTEN = {
    "as it is": f"password: {PASSWORD}",
    "escaped for JSON": json.dumps({"password": PASSWORD}),
    "quoted for a URL": f"redis://:{quote(PASSWORD, safe='')}@host",
    "quoted for a form": f"password={quote(PASSWORD, safe='').replace('%20', '+')}",
    "in base64": base64.b64encode(f"admin:{PASSWORD}".encode()).decode(),
    "in base64 for a URL": base64.urlsafe_b64encode(f"user:{PASSWORD}?".encode()).decode(),
}


@pytest.mark.parametrize("form", WRITTEN)
def test_a_value_is_found_in_each_form_and_not_printed(form: str) -> None:
    found = search([Secret("auth", PASSWORD)], [("a log", WRITTEN[form].encode()), ("none", b"")])

    assert found == [f"auth, {form}, in a log"]


@pytest.mark.parametrize("before", range(4))
@pytest.mark.parametrize("after", range(4))
def test_a_value_in_base64_is_found_at_any_offset(before: int, after: int) -> None:
    text = base64.b64encode(b"b" * before + PASSWORD.encode() + b"a" * after)

    assert in_base64(PASSWORD.encode(), before % 3) in text


@pytest.mark.parametrize(
    "whole",
    [
        f"admin:{PART}",
        f"postgresql+asyncpg://prefect:{PART}@database:5432/prefect",
        json.dumps({"identities": [{"name": "admin", "secretKey": PART}]}),
    ],
)
def test_the_secret_part_of_a_value_is_found_on_its_own(whole: str) -> None:
    found = search([Secret("whole", whole)], [("a log", PART.encode())])

    assert found == ["whole, as it is, in a log"]


def test_a_value_that_is_too_short_to_search_for_is_refused() -> None:
    with pytest.raises(AssertionError, match="short has less than 16 characters"):
        Secret("short", "admin")


def test_hidden_and_binary_files_are_searched_except_in_excluded_folders(tmp_path: Path) -> None:
    for name in (".hidden/plan", "state.backup", ".venv/theirs"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"\xff\x00" + PASSWORD.encode())

    assert search([Secret("auth", PASSWORD)], files(tmp_path, without={".venv"})) == [
        f"auth, as it is, in the file {tmp_path}/.hidden/plan",
        f"auth, as it is, in the file {tmp_path}/state.backup",
    ]


def test_files_inside_an_archive_are_searched(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "plan", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("tfstate", PASSWORD)

    found = search([Secret("auth", PASSWORD)], files(tmp_path))

    assert found == [f"auth, as it is, in tfstate of the file {tmp_path}/plan"]


@pytest.mark.skipif(
    not executed_commands.available(), reason="only root can record which commands are executed"
)
def test_a_short_lived_command_is_recorded() -> None:
    running = "import sys; print(flush=True); sys.stdin.read()"
    with (
        subprocess.Popen(
            [sys.executable, "-c", running, f"{PASSWORD} before"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as before,
    ):
        assert before.stdout is not None
        before.stdout.readline()
        with executed_commands.recorded() as commands:
            for number in range(50):
                short_lived = ["sh", "-c", "sleep 0.01", f"{PASSWORD} {number}"]
                subprocess.run(short_lived, check=True)

    recorded = {line for _, line in commands.seen if line.startswith(b"sh\0-c\0sleep 0.01\0")}
    assert len(recorded) >= 45
    found = search([Secret("auth", PASSWORD)], commands.seen)
    assert len(found) == 2
    assert "sh" in "".join(found)
