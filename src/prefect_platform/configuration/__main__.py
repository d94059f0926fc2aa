"""Apply the configuration from a pod: the chart's Job after each installation, and its CronJob."""

import argparse
import asyncio
import os
from pathlib import Path

import httpx

from prefect_platform import container
from prefect_platform.api_certificate import refuse_untrusted, verification
from prefect_platform.configuration import commands
from prefect_platform.configuration.core.context import Mounted
from prefect_platform.configuration.core.prefect_api import prefect_api
from prefect_platform.configuration.deployments import recorded_facts
from prefect_platform.configuration.platform_file import Files
from prefect_platform.container import NotYet, wait_for
from prefect_platform.errors import PlatformError


async def _await_api(url: str, timeout: float) -> None:
    async with httpx.AsyncClient(timeout=10, verify=verification()) as client:

        async def check() -> None:
            try:
                response = await client.get(f"{url}/ready")
            except httpx.TransportError as error:
                refuse_untrusted(url, error)
                raise NotYet(f"it does not answer ({type(error).__name__})") from error
            if not response.is_success:
                raise NotYet(f"it answered {response.status_code}")

        await wait_for(
            url,
            check,
            timeout=timeout,
            next_step="kubectl --namespace prefect get pods; the Job retries automatically",
        )


def _refuse_outdated(mounted: Path, checksum: str) -> None:
    """Raise PlatformError when the pod was made for another configuration than the mounted one."""
    # The ConfigMap of a release that gave no checksums has none.
    if not mounted.exists() or mounted.read_text() != checksum:
        raise PlatformError(
            "this pod is outdated and changes nothing: the ConfigMap has the configuration of "
            "another upgrade or rollback",
            next_step="if every pod says so, an upgrade stopped halfway: run helm upgrade again, "
            "or roll back",
        )


def main() -> None:
    """Wait for the API and apply the mounted files to it."""
    parser = argparse.ArgumentParser(prog="python -m prefect_platform.configuration")
    parser.add_argument("--file", type=Path, required=True, help="platform.yaml")
    parser.add_argument("--deployments", type=Path, required=True, help="prefect.yaml")
    parser.add_argument("--secrets", type=Path, required=True, help="folder of mounted Secrets")
    parser.add_argument(
        "--templates", type=Path, required=True, help="folder of base job templates"
    )
    parser.add_argument(
        "--release", required=True, metavar="NAMESPACE/NAME", help="release that owns them"
    )
    parser.add_argument(
        "--checksum", required=True, help="of the configuration that this pod was made for"
    )
    parser.add_argument("--prune", action="store_true", help="delete what is no longer declared")
    parser.add_argument("--timeout", type=float, default=600, metavar="SECONDS")
    arguments = parser.parse_args()
    url = os.environ["PREFECT_API_URL"].rstrip("/")
    asyncio.run(_await_api(url, arguments.timeout))
    _refuse_outdated(arguments.file.with_name("checksum"), arguments.checksum)
    with prefect_api(url, os.environ.get("PREFECT_API_AUTH_STRING")) as client:
        commands.apply(
            client,
            Files(
                arguments.file,
                arguments.deployments,
                flow_facts=arguments.deployments.with_name(recorded_facts.NAME),
            ),
            Mounted(arguments.secrets, arguments.templates, arguments.release),
            prune=arguments.prune,
            checksum=arguments.checksum,
        )


if __name__ == "__main__":
    container.run(main)
