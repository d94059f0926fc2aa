"""Faults during a change of the platform: of passwords, of the database, of the configuration."""

import secrets
from dataclasses import dataclass
from uuid import uuid4

from prefect.client.schemas.actions import WorkPoolUpdate

from prefect_platform.configuration.core.lock import LOCK
from prefect_platform_cli.deploy.connection import connected
from prefect_platform_cli.deploy.secrets import secret_version
from prefect_platform_cli.kube import names
from tests.chaos.fault import Fault
from tests.chaos.parts import API, CONFIGURATION, DATABASE, REDIS, SERVICES, Part
from tests.chaos.target import Target
from tests.cluster.cronjobs import ends, run_now, started_now
from tests.cluster.deployed import eventually, put_secret
from tests.cluster.older_prefect import DROPPED, REVISION

# By their keys in the value `secretVersions`.
_ROTATED = {"database": names.DATABASE_SECRET, "redis": names.REDIS_SECRET}
_NEWEST = ("--set-string=migrations.revision=", "--set=migrations.mayLose=null")
# The migrations after REVISION create a table that refers to this one, so they wait for the lock.
_HOLD = "BEGIN; LOCK TABLE automation IN SHARE ROW EXCLUSIVE MODE; SELECT pg_sleep(300)"
_LOCKS = "FROM pg_locks WHERE relation = 'automation'::regclass AND mode = 'ShareRowExclusiveLock'"
# Takes the lock of the configuration, and then blocks at its first change until it is killed.
_APPLY_THAT_STOPS = """
import time
from prefect_platform import container
from prefect_platform.configuration import __main__
from prefect_platform.configuration.reconcile import apply

apply._do = lambda *_: time.sleep(600)
container.run(__main__.main)
"""


@dataclass(frozen=True, kw_only=True)
class SecretsRotated(Fault):
    """The passwords of the database, and of Redis in mode ha, are changed and rolled out."""

    @property
    def parts(self) -> frozenset[Part]:
        """Return what reads the passwords."""
        return frozenset({API, SERVICES, DATABASE, REDIS})

    def inject(self, target: Target) -> None:
        """Change the Secrets, and roll them out."""
        for secret in _ROTATED.values():
            password = {"password": secrets.token_urlsafe(24)}
            put_secret(target.kubectl, names.SERVER_NAMESPACE, secret, password)
        self.heal(target)

    def heal(self, target: Target) -> None:
        """Roll out the Secrets as they are now."""
        api = target.kubectl.api()
        versions = (
            f"secretVersions.{key}={secret_version(api, names.SERVER_NAMESPACE, secret)}"
            for key, secret in _ROTATED.items()
        )
        target.upgrade_server(f"--set-string={','.join(versions)}")


@dataclass(frozen=True, kw_only=True)
class MigrationKilled(Fault):
    """The Job that migrates the database is killed while it creates a table."""

    @property
    def parts(self) -> frozenset[Part]:
        """Return the database, and what waits for its migrations."""
        return frozenset({API, SERVICES, DATABASE})

    def inject(self, target: Target) -> None:
        """Downgrade the database, kill the Job that upgrades it again, and repeat the upgrade."""
        may_lose = f"--set=migrations.mayLose={{{','.join(DROPPED)}}}"
        target.upgrade_server(f"--set-string=migrations.revision={REVISION}", may_lose)
        hold = f'psql --username=prefect --dbname=prefect --command="{_HOLD}" >/dev/null 2>&1 &'
        target.kubectl(DATABASE.here, "exec", DATABASE.workload, "--", "sh", "-c", hold)
        held, waiting = (
            f"SELECT count(*) {_LOCKS} AND {lock}" for lock in ("granted", "NOT granted")
        )
        eventually("the table is locked", lambda: target.psql_of_server(held).strip() == "1")
        target.upgrade_server(*_NEWEST, wait=False)
        eventually(
            "the migration is in the middle of a table",
            lambda: target.psql_of_server(waiting).strip() == "1",
        )
        migrations = names.selector(instance=names.SERVER_RELEASE, component="migrations")
        (pod,) = target.running(names.SERVER_NAMESPACE, migrations)
        target.kill(pod)
        self.heal(target)

    def heal(self, target: Target) -> None:
        """Upgrade the database to the revision of the image."""
        target.psql_of_server(f"SELECT pg_terminate_backend(pid) {_LOCKS} AND granted")
        target.upgrade_server(*_NEWEST)


@dataclass(frozen=True, kw_only=True)
class TwoApplies(Fault):
    """The configuration is applied twice at the same time, and the first apply is killed."""

    @property
    def parts(self) -> frozenset[Part]:
        """Return the configuration, and the API, which has its lock."""
        return frozenset({CONFIGURATION, API})

    def inject(self, target: Target) -> None:
        """Change the work pool, and kill the apply that is about to change it back."""
        kubectl, namespace, cronjob = target.kubectl, CONFIGURATION.namespace, CONFIGURATION.name
        killed, other = (f"chaos-apply-{uuid4().hex[:6]}" for _ in range(2))
        with connected(kubectl) as prefect:
            declared = prefect.read_work_pool(names.POOL).concurrency_limit
            assert declared is not None
            one_more = WorkPoolUpdate(concurrency_limit=declared + 1)
            prefect.update_work_pool(names.POOL, one_more)

        with started_now(kubectl, namespace, cronjob, name=killed, code=_APPLY_THAT_STOPS):
            eventually("the first apply has the lock", lambda: _is_locked(target))
            with started_now(kubectl, namespace, cronjob, name=other):
                eventually(
                    "the second apply runs",
                    lambda: bool(target.running(namespace, f"job-name={other}")),
                )
                (pod,) = target.running(namespace, f"job-name={killed}")
                target.kill(pod)
                assert ends(kubectl, namespace, other), "the second apply has failed"

        with connected(kubectl) as prefect:
            assert prefect.read_work_pool(names.POOL).concurrency_limit == declared

    def heal(self, target: Target) -> None:
        """Apply the configuration."""
        run_now(target.kubectl, CONFIGURATION.namespace, CONFIGURATION.name)


def _is_locked(target: Target) -> bool:
    with connected(target.kubectl) as prefect:
        return prefect.read_variable_by_name(LOCK) is not None
