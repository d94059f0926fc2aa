"""Settings of Prefect for `python flows/NAME.py`, whatever the working directory is."""

from collections.abc import Iterator
from contextlib import contextmanager

from prefect.settings import (
    PREFECT_SERVER_ANALYTICS_ENABLED,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    temporary_settings,
)

# Prefect's default of 20 seconds is too short for the first start of the temporary server, which
# compiles all of its code. That server should not send telemetry either.
_DEFAULTS = {
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: 300,
    PREFECT_SERVER_ANALYTICS_ENABLED: False,
}


@contextmanager
def temporary_server() -> Iterator[None]:
    """Let a temporary server take long to start, unless the user has set how long."""
    with temporary_settings(set_defaults=_DEFAULTS):
        yield
