"""Runs in processes that share nothing but the Prefect server, the object store and Redis."""

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
_WITHIN = 180  # seconds, of one run


@dataclass
class Pods:
    """A Prefect server with a block for results, and its runs."""

    api: str
    directory: Path
    variables: dict[str, str]
    count: int = field(default=0)

    def configure(self) -> None:
        """Save the block as k8s/environments/local declares it."""
        declared = YAML(typ="safe").load(REPOSITORY / "k8s/environments/local/platform.yaml")
        self.save("prefect_aws.S3Bucket", BLOCK, declared["blocks"][BLOCK])

    def save(self, block_type: str, block: str, fields: dict[str, Any]) -> None:
        """Save a block of the type `package.Class` as `block`, a slug and a name."""
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
        """Create a run of a flow of computing.py; return its id."""
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
        """Start the engine for a run as a job pod does; it is killed at the end."""
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

    def run(self, flow: str, *, by: dict[str, str] | None = None, **parameters: object) -> str:
        """Run a flow to its end, with variables `by`; return the run's id."""
        run = self.create(flow, **parameters)
        with self.started(run, **(by or {})) as process:
            process.wait(_WITHIN)
        return run

    def state(self, run: str) -> dict[str, Any]:
        """Return the state of a run: name, type, message."""
        with api_client(self.api) as client:
            return dict(client.get(f"flow_runs/{run}").json()["state"])

    def task_states(self, run: str) -> list[str]:
        """Return the states of the run's tasks, once all have ended: the server learns it late."""
        found: list[str] = []

        def unfinished() -> bool:
            nonlocal found
            runs = self.post("task_runs/filter", {"flow_runs": {"id": {"any_": [run]}}})
            found = sorted(each["state_name"] for each in runs)
            return not all(each["end_time"] for each in runs)

        assert not wait_while(unfinished, 30), f"tasks of {run} after 30 s: {found}"
        return found

    def log(self, run: str) -> str:
        """Return what the process of a run has printed."""
        return (self.directory / f"{run}.log").read_text()

    def post(self, path: str, body: dict[str, Any]) -> Any:  # noqa: ANN401
        """Return the answer of the API."""
        with api_client(self.api) as client:
            return client.post(path, json=body).json()

    def environment(self, variables: dict[str, str] | None = None) -> dict[str, str]:
        """Return the environment of a new pod, with a home of its own."""
        self.count += 1
        home = self.directory / f"home-{self.count}"
        home.mkdir()
        return clean_environment(home, **(self.variables | (variables or {})))
