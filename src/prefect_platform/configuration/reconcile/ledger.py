"""The record of what the files have created on a server, so that it can be pruned later.

Blocks, pools, queues and limits have no labels that could name their owner, so one record lists
them all. It is a block document of a type of its own, because a variable is too small.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from uuid import UUID

import httpx
from prefect.blocks.core import Block
from prefect.client.orchestration import SyncPrefectClient
from pydantic import Field

from prefect_platform.configuration.core.resource import Declared, Key, Kind, Secrets
from prefect_platform.errors import PlatformError


class ConfigurationLedger(Block):
    """Which resources of this server the platform's files declare. Written by `apply` alone."""

    _block_type_name = "Configuration ledger"
    _block_type_slug = "configuration-ledger"

    release: str = Field(
        default="",
        description="The release of prefect-worker that applies the files, as NAMESPACE/NAME.",
    )
    checksum: str = Field(
        default="", description="The checksum of the configuration that a pod applied last."
    )
    handovers: int = Field(default=0, description="How often another checksum has taken over.")
    entries: dict[str, dict[str, Secrets]] = Field(
        default_factory=dict,
        description="The sources of the secret values of each resource, by kind and name.",
    )


DOCUMENT = "prefect-platform"
KEY = Key(Kind.BLOCK, f"{ConfigurationLedger._block_type_slug}/{DOCUMENT}")


@dataclass
class Ledger:
    """The resources that `release` owns, each with the references of its secret values.

    `checksum` is that of the configuration that a pod applied last, and `handovers` counts how
    often it has changed. `document` is the id of the block document, None when there is none yet.
    """

    release: str = ""
    checksum: str = ""
    handovers: int = 0
    secrets: dict[Key, Secrets] = field(default_factory=dict)
    document: UUID | None = None

    def claim(self, release: str) -> None:
        """Make `release` the owner; raises PlatformError when another release is the owner."""
        if self.release not in ("", release):
            raise PlatformError(
                f"the release {self.release} already configures this server, and {release} would "
                "delete what that release declares",
                next_step="remove the value configuration.platform from one of them; to hand over, "
                f"delete the {KEY} on the server: all else is kept, and the next apply adopts it",
            )
        self.release = release

    def hand_over(self, checksum: str, seen: int) -> bool:
        """Make `checksum` the one that was applied last; return whether it was another one.

        Raises PlatformError when the ledger has been handed over since `handovers` was `seen`. The
        order of two checksums is unknown, because a rollback brings an old one back, but whoever
        takes over must have started after the one before has.
        """
        if checksum in ("", self.checksum):
            return False
        if self.handovers != seen:
            raise PlatformError(
                "another configuration was applied while this pod was starting, so this one is "
                "outdated and changes nothing",
                next_step="check that the Job of the last upgrade or rollback has completed: "
                "kubectl get jobs --all-namespaces "
                "--selector app.kubernetes.io/component=configuration",
            )
        self.checksum = checksum
        self.handovers += 1
        return True

    def knows(self, declared: Declared) -> bool:
        """Return whether the resource is recorded with the references that it declares."""
        return self.secrets.get(declared.key) == references(declared)

    def record(self, resources: Iterable[Declared]) -> None:
        """Record resources as declared."""
        self.secrets |= {each.key: references(each) for each in resources}

    def forget(self, key: Key) -> None:
        """Remove a resource from the record."""
        self.secrets.pop(key, None)


def references(declared: Declared) -> Secrets:
    """Return the references of a resource's secret values, in the form of the record."""
    return [
        {"at": list(steps), "from": dict(reference)}
        for steps, reference in sorted(declared.secrets.items(), key=lambda item: str(item[0]))
    ]


def read_ledger(client: SyncPrefectClient) -> Ledger:
    """Return the server's ledger, an empty one if nothing has been applied yet.

    Raises PlatformError when its content is not what `write_ledger` wrote. Ignoring that would let
    whoever changed it decide what is pruned.
    """
    try:
        document = client.request(
            "GET",
            "/block_types/slug/{slug}/block_documents/name/{block_document_name}",
            path_params={
                "slug": ConfigurationLedger._block_type_slug,
                "block_document_name": DOCUMENT,
            },
        ).json()
    except httpx.HTTPStatusError as error:
        if error.response.status_code == httpx.codes.NOT_FOUND:
            return Ledger()
        raise
    try:
        saved = ConfigurationLedger.model_validate(document["data"])
        return Ledger(
            saved.release,
            saved.checksum,
            saved.handovers,
            _secrets(saved.entries),
            UUID(document["id"]),
        )
    except ValueError as error:
        raise PlatformError(
            f"the {KEY} on the server has been changed by something other than this program, so "
            "nothing was applied",
            next_step=f"find out who did it, then delete the {KEY}: all else is kept, and the next "
            "apply adopts what the files declare",
        ) from error


def write_ledger(client: SyncPrefectClient, ledger: Ledger) -> None:
    """Save the ledger on the server."""
    entries: dict[str, dict[str, Secrets]] = {}
    for key, secrets in sorted(ledger.secrets.items()):
        entries.setdefault(key.kind.value, {})[key.name] = secrets
    data = {
        "release": ledger.release,
        "checksum": ledger.checksum,
        "handovers": ledger.handovers,
        "entries": entries,
    }
    if ledger.document is None:
        saved = ConfigurationLedger.model_validate(data).save(DOCUMENT, overwrite=True)
        ledger.document = UUID(str(saved))
        return
    client.request(
        "PATCH",
        "/block_documents/{id}",
        path_params={"id": ledger.document},
        json={"data": data, "merge_existing_data": False},
    )


def _secrets(entries: Mapping[str, Mapping[str, Secrets]]) -> dict[Key, Secrets]:
    return {
        Key(Kind(kind), name): secrets
        for kind, named in entries.items()
        for name, secrets in named.items()
    }
