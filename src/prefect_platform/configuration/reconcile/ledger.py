"""What the platform's files have made on a server, so that what leaves them can be pruned.

Blocks, pools, queues and limits can carry no mark of their owner, so the marks are kept together:
in a block document of our own type, since a variable holds too little.
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
        description="The release of prefect-worker whose files they are, NAMESPACE/NAME.",
    )
    entries: dict[str, dict[str, Secrets]] = Field(
        default_factory=dict,
        description="By kind and name, where each secret value of the resource comes from.",
    )


DOCUMENT = "prefect-platform"
KEY = Key(Kind.BLOCK, f"{ConfigurationLedger._block_type_slug}/{DOCUMENT}")


@dataclass
class Ledger:
    """The resources that `release` owns, each with the references of its secret values."""

    release: str = ""
    secrets: dict[Key, Secrets] = field(default_factory=dict)
    document: UUID | None = None

    def claim(self, release: str) -> None:
        """Keep the ledger for `release`; raises PlatformError when it is another release's."""
        if self.release not in ("", release):
            raise PlatformError(
                f"the release {self.release} configures this server, and {release} would delete "
                "what that declares",
                next_step="take the value configuration.platform from one of them; to hand over, "
                f"delete the {KEY} of the server: all else stays, and the next apply adopts it",
            )
        self.release = release

    def knows(self, declared: Declared) -> bool:
        """Return whether the resource is recorded just as it is declared."""
        return self.secrets.get(declared.key) == references(declared)

    def record(self, resources: Iterable[Declared]) -> None:
        """Record resources as declared."""
        self.secrets |= {each.key: references(each) for each in resources}

    def forget(self, key: Key) -> None:
        """Record that a resource is no longer ours."""
        self.secrets.pop(key, None)


def references(declared: Declared) -> Secrets:
    """Return where the secret values of a resource come from, as it is recorded."""
    return [
        {"at": list(steps), "from": dict(reference)}
        for steps, reference in sorted(declared.secrets.items(), key=lambda item: str(item[0]))
    ]


def read_ledger(client: SyncPrefectClient) -> Ledger:
    """Return the server's ledger, an empty one when nothing was ever applied."""
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
    data = document["data"]
    return Ledger(data["release"], _secrets(data["entries"]), UUID(document["id"]))


def write_ledger(client: SyncPrefectClient, ledger: Ledger) -> None:
    """Keep the ledger on the server."""
    entries: dict[str, dict[str, Secrets]] = {}
    for key, secrets in sorted(ledger.secrets.items()):
        entries.setdefault(key.kind.value, {})[key.name] = secrets
    if ledger.document is None:
        saved = ConfigurationLedger(release=ledger.release, entries=entries).save(
            DOCUMENT, overwrite=True
        )
        ledger.document = UUID(str(saved))
        return
    client.request(
        "PATCH",
        "/block_documents/{id}",
        path_params={"id": ledger.document},
        json={
            "data": {"release": ledger.release, "entries": entries},
            "merge_existing_data": False,
        },
    )


def _secrets(entries: Mapping[str, Mapping[str, Secrets]]) -> dict[Key, Secrets]:
    return {
        Key(Kind(kind), name): secrets
        for kind, named in entries.items()
        for name, secrets in named.items()
    }
