"""The API does not start with an auth string that people cannot enter."""

import pytest
from prefect.settings import PREFECT_SERVER_API_AUTH_STRING, temporary_settings

from prefect_platform.errors import PlatformError
from prefect_platform.plugins.run_identity import create_api_app


def test_an_auth_string_that_ends_with_a_line_break_is_refused_with_the_name_of_its_secret() -> (
    None
):
    with (
        temporary_settings({PREFECT_SERVER_API_AUTH_STRING: "admin:of-people\n"}),
        pytest.raises(PlatformError, match="ends with a line break") as refused,
    ):
        create_api_app()
    assert "prefect-auth" in refused.value.next_step
    assert "of-people" not in str(refused.value)
