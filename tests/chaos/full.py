"""Faults of a store that has no room left."""

from dataclasses import dataclass

from tests.chaos.outages import OfOnePart, await_pods
from tests.chaos.target import Target

_MAXMEMORY = "chaos/maxmemory"
_CLI = 'REDISCLI_AUTH="$(printf %s "$REDIS_PASSWORD")" exec redis-cli "$@"'


@dataclass(frozen=True, kw_only=True)
class RedisFull(OfOnePart):
    """Redis has more data than its maxmemory, so it refuses every write."""

    def inject(self, target: Target) -> None:
        """Lower maxmemory below what Redis uses, and note its value."""
        limit = self._cli(target, "CONFIG", "GET", "maxmemory").split()[-1]
        here, workload = self.part.here, self.part.workload
        target.kubectl(here, "annotate", workload, f"{_MAXMEMORY}={limit}")
        self._cli(target, "CONFIG", "SET", "maxmemory", "1")
        refused = self._cli(target, "SET", "chaos", "")
        assert "OOM" in refused, f"Redis accepts a write: {refused}"

    def heal(self, target: Target) -> None:
        """Set maxmemory to its value."""
        here, workload = self.part.here, self.part.workload
        await_pods(target, self.part)
        noted = f"-o=jsonpath={{.metadata.annotations.{_MAXMEMORY}}}"
        if limit := target.kubectl(here, "get", workload, noted):
            self._cli(target, "CONFIG", "SET", "maxmemory", limit)
            target.kubectl(here, "annotate", workload, f"{_MAXMEMORY}-")

    def _cli(self, target: Target, *command: str) -> str:
        run = ("exec", self.part.workload, "--", "sh", "-c", _CLI, "redis-cli", *command)
        return target.kubectl(self.part.here, *run)
