"""The platform's changes to Prefect are explained, and compared with every Prefect release."""

import re

import pytest

from prefect_platform_cli.host.paths import REPOSITORY
from tests.support import upstream
from tests.support.documented import tables
from tests.support.upstream import FOLLOWED, PREFECT, Followed, Release, installed

_SENDS = "prefect.client.base:PrefectHttpxSyncClient.send"
_MIGRATION = "prefect/server/database/_migrations/versions/postgresql/2100_01_01_a_table.py"


@pytest.mark.parametrize("followed", FOLLOWED, ids=lambda each: each.function)
def test_a_followed_function_of_prefect_is_unchanged_since_the_last_comparison(
    followed: Followed,
) -> None:
    # If the checksum differs, run `make upstream` to read the change, adapt our function to it, and
    # record the new checksum.
    source = installed(followed.package).function(followed.function)

    assert source is not None
    assert upstream.checksum(source) == followed.checksum


def test_the_page_explains_every_module_that_follows_a_function() -> None:
    explained = {
        module
        for row in tables(REPOSITORY / "docs/upstream.md", "Ours")
        for module in re.findall(r"`(src/\S+\.py)`", row[0])
    }

    assert {each.ours for each in FOLLOWED} <= explained
    assert [module for module in explained if not (REPOSITORY / module).is_file()] == []


def test_the_changes_of_a_release_are_listed_with_the_modules_that_have_to_follow() -> None:
    before = installed(PREFECT)
    path = "prefect/client/base.py"
    changed = before.files[path].replace("httpx.ReadTimeout,", "httpx.TimeoutException,")
    states = before.files["prefect/states.py"].replace("Cancelling", "Stopping")
    edited = {path: changed, "prefect/states.py": states, _MIGRATION: ""}
    after = Release("prefect 99", {**before.files, **edited})

    asynchronous, synchronous, gone, migration = upstream.changes(PREFECT, before, after)

    assert asynchronous.startswith("prefect.client.base:PrefectHttpxAsyncClient.send, which ")
    assert synchronous.startswith(
        f"{_SENDS}, which src/prefect_platform/plugins/first_connection.py "
    )
    assert "-            httpx.ReadTimeout,\n+            httpx.TimeoutException," in synchronous
    assert gone.startswith("prefect.states no longer has Cancelling: ")
    assert "src/prefect_platform/worker/helm_test.py" in gone
    assert migration == "a new migration: postgresql/2100_01_01_a_table.py"
    assert list(upstream.changes(PREFECT, before, before)) == []
