"""Flow runs in processes that share only the Prefect server, the object store and Redis."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from prefect_platform.polling import wait_while
from prefect_platform_cli.host.paths import REPOSITORY
from tests.support.servers import api_client, clean_environment

FLOWS = Path(__file__).with_name("computing.py")
BLOCK = "s3-bucket/results-default"
_RUN_TIMEOUT = 180  # seconds


@dataclass
class Pods:
    """Runs flows as job pods do, on a Prefect server with a block for results."""

    api: str
    directory: Path
    variables: dict[str, str]
    count: int = field(default=0)

    def configure(self) -> None:
        """Save the block as k8s/environments/local declares it."""
        declared = YAML(typ="safe").load(REPOSITORY / "k8s/environments/local/platform.yaml")
        self.save("prefect_aws.S3Bucket", BLOCK, declared["blocks"][BLOCK])

    def save(self, block_type: str, block: str, fields: dict[str, Any]) -> None:
        """Save a block of the type `package.Class` as `block`, which has the form `slug/name`."""
        package, _, of_type = block_type.partition(".")
        save = f"from {package} import {of_type}; {of_type}(**{fields!r})"
        name = block.partition("/")[2]
        subprocess.run(
            [sys.executable, "-c", f"{save}.save({name!r}, overwrite=True)"],
            env=self.environment(),
            check=True,
            capture_output=True,
        )

    def create(self, flow: str, **parameters: object) -> str:
        """Create a run of a flow in computing.py, and return its id."""
        flow_id = self.post("flows/", {"name": flow})["id"]
        entrypoint = {"path": str(FLOWS.parent), "entrypoint": f"{FLOWS.name}:{flow}"}
        deployment = self.post(
            "deployments/",
            {"name": "of-tests", "flow_id": flow_id, "enforce_parameter_schema": False}
            | entrypoint,
        )["id"]
        body = {"parameters": parameters}
        return str(self.post(f"deployments/{deployment}/create_flow_run", body)["id"])

    @contextmanager
    def started(self, run: str, **variables: str) -> Iterator["subprocess.Popen[bytes]"]:
        """Start Prefect's engine for a run as a job pod does, and kill it at the end."""
        with (self.directory / f"{run}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "prefect.engine"],
                env=self.environment(variables) | {"PREFECT__FLOW_RUN_ID": run},
                cwd=FLOWS.parent,
                stdout=log,
                stderr=log,
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def run(
        self, flow: str, *, variables: dict[str, str] | None = None, **parameters: object
    ) -> str:
        """Run a flow with additional environment variables until it ends; return the run's id."""
        run = self.create(flow, **parameters)
        with self.started(run, **(variables or {})) as process:
            process.wait(_RUN_TIMEOUT)
        return run

    def state(self, run: str) -> dict[str, Any]:
        """Return the state of a run: name, type, message."""
        with api_client(self.api) as client:
            return dict(client.get(f"flow_runs/{run}").json()["state"])

    def task_states(self, run: str) -> list[str]:
        """Wait until the server knows that all tasks of a run have ended; return their states."""
        found: list[str] = []

        def unfinished() -> bool:
            nonlocal found
            runs = self.post("task_runs/filter", {"flow_runs": {"id": {"any_": [run]}}})
            found = sorted(each["state_name"] for each in runs)
            return not all(each["end_time"] for each in runs)

        assert not wait_while(unfinished, 30), (
            f"the tasks of {run} have not ended after 30 s: {found}"
        )
        return found

    def log(self, run: str) -> str:
        """Return the output of a run's process."""
        return (self.directory / f"{run}.log").read_text()

    def post(self, path: str, body: dict[str, Any]) -> Any:  # noqa: ANN401
        """Send a request to the API, and return the response."""
        with api_client(self.api) as client:
            return client.post(path, json=body).json()

    def environment(self, variables: dict[str, str] | None = None) -> dict[str, str]:
        """Return the environment variables of a new pod, which has its own home directory."""
        self.count += 1
        home = self.directory / f"home-{self.count}"
        home.mkdir()
        return clean_environment(home, **(self.variables | (variables or {})))
