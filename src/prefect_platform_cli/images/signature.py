"""Signatures of what is in a registry, which cosign makes and checks with one key."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from prefect_platform.console import step
from prefect_platform.errors import PlatformError
from prefect_platform_cli.host.credentials import credentials_file
from prefect_platform_cli.host.process import run
from prefect_platform_cli.host.registry import is_on_this_machine
from prefect_platform_cli.host.withheld import with_withheld, withhold
from prefect_platform_cli.images.remote import Registry
from prefect_platform_cli.kube.clients import ensure_clients, program

_UNSIGNED = re.compile(r"no (matching )?signatures")
_PUBLIC_KEY = "SIGNING_PUBLIC_KEY"
_PASSWORD = "COSIGN_PASSWORD"  # noqa: S105  the name of a variable
_FROM_ENVIRONMENT = "env://"
# https://docs.sigstore.dev/cosign/key_management/overview/: a key management service needs none.
_WITHOUT_PASSWORD = ("awskms://", "azurekms://", "gcpkms://", "hashivault://", "k8s://")


@dataclass(frozen=True)
class Signer:
    """Signs with `key`, which is what cosign accepts: a file, env://VARIABLE, or a key in a KMS."""

    key: str
    public_key: str
    """The public half of `key`, as PEM."""

    def has_signed(self, registry: Registry, name: str, tag: str, digest: str) -> bool:
        """Return whether the registry has a signature of this key for an image and its tag."""
        # Signatures of private images are in no public transparency log.
        verify = ("verify", f"--key=env://{_PUBLIC_KEY}", "--private-infrastructure")
        try:
            self._cosign(registry, name, tag, digest, *verify)
        except PlatformError as error:
            if _UNSIGNED.search(error.message):
                return False
            raise
        return True

    def sign(self, registry: Registry, name: str, tag: str, digest: str) -> None:
        """Add a signature of an image to the registry; raises PlatformError when it refuses."""
        with step(f"Sign {registry.address}/{name}@{digest}"):
            self._cosign(
                *(registry, name, tag, digest),
                *("sign", f"--key={self.key}", "--yes", "--tlog-upload=false"),
            )

    def _cosign(
        self, registry: Registry, name: str, tag: str, digest: str, *arguments: str
    ) -> None:
        image = f"{registry.address}/{name}@{digest}"
        http = ["--allow-http-registry"] if is_on_this_machine(registry.host) else []
        # Without them, whoever may write to the registry could give a tag to an older signed image.
        signed = (f"--annotations=name={name}", f"--annotations=tag={tag}")
        with _logged_in(registry.host) as login:
            run(
                [program("cosign"), *arguments, *signed, *http, image],
                failure=f"the signature of {image} cannot be written or read",
                next_step=f"check that your login to {registry.host} may push, then run the "
                "command again",
                env={**with_withheld(), **login, _PUBLIC_KEY: self.public_key},
            )


def withhold_key(key: str) -> None:
    """Keep the key and its password from all programs that are started from now on but cosign."""
    withhold(_PASSWORD)
    if key.startswith(_FROM_ENVIRONMENT):
        withhold(key.removeprefix(_FROM_ENVIRONMENT))


def signer(key: str) -> Signer:
    """Return the signer of a key; raises PlatformError if cosign cannot use the key."""
    if not key.startswith(_WITHOUT_PASSWORD) and _PASSWORD not in with_withheld():
        raise PlatformError(
            f"the password of SIGNING_KEY={key} is not known",
            next_step="export COSIGN_PASSWORD; leave it empty if the key has no password",
        )
    ensure_clients(["cosign"])
    public_key = run(
        [program("cosign"), "public-key", f"--key={key}"],
        failure=f"SIGNING_KEY={key} cannot be used",
        next_step="check the key and COSIGN_PASSWORD, or make a key: cosign generate-key-pair",
        env=with_withheld(),
    )
    return Signer(key, public_key)


@contextmanager
def _logged_in(host: str) -> Iterator[Mapping[str, str]]:
    """Yield the variables with which cosign finds the credentials that the other commands use."""
    file = credentials_file(host)
    if file is None:
        yield {}
        return
    with TemporaryDirectory() as folder:
        Path(folder, "config.json").symlink_to(file.absolute())
        yield {"DOCKER_CONFIG": folder}
