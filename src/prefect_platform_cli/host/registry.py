"""Ask an image registry whether it answers, and which image a tag names.

The requests are those of the OCI distribution specification 1.1.
"""

import datetime as dt
import hashlib
import re
from collections.abc import Generator
from dataclasses import dataclass, field

import httpx
from pydantic import AliasChoices, AwareDatetime, BaseModel, Field, TypeAdapter, ValidationError

from prefect_platform.errors import PlatformError

DOCKER_HUB = "https://registry-1.docker.io/v2/"
# A registry answers its root without credentials, or asks for them.
_ANSWERS = (httpx.codes.OK, httpx.codes.UNAUTHORIZED)
_NAME = re.compile(r"(?P<host>[^/@]+)/(?P<repository>[^@]+):(?P<tag>[^:/@]+)")
_MANIFESTS = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)


class _Platform(BaseModel):
    os: str


class _Descriptor(BaseModel):
    digest: str
    platform: _Platform | None = None


class _Index(BaseModel):
    """One image for each platform, and attestations, whose platform is unknown."""

    manifests: list[_Descriptor]


class _Image(BaseModel):
    config: _Descriptor


class _Config(BaseModel):
    created: AwareDatetime


class _Token(BaseModel):
    token: str = Field(validation_alias=AliasChoices("token", "access_token"))


_MANIFEST: TypeAdapter[_Index | _Image] = TypeAdapter(_Index | _Image)


@dataclass(frozen=True)
class Published:
    """What a tag names: the digest for all platforms, and when the image for Linux was created."""

    digest: str
    created: dt.datetime


def why_unreachable(registry: str) -> str | None:
    """Return why `registry` (the address of its root) cannot be used; None when it can."""
    try:
        status = httpx.get(registry, timeout=5).status_code
    except httpx.HTTPError as error:
        return f"{registry} is not reachable: {error}"
    return None if status in _ANSWERS else f"{registry} answers with status {status}"


def published(name: str) -> Published:
    """Return what the tag `name` (HOST/REPOSITORY:TAG) names in its registry now.

    Raises PlatformError when the registry does not answer, wants a password, has no such image, or
    describes it in another way than the specification.
    """
    parts = _NAME.fullmatch(name)
    if parts is None:
        raise PlatformError(
            f"{name} is not the name of an image in a registry",
            next_step="write it as HOST/REPOSITORY:TAG",
        )
    host, root = parts["host"], f"{_root(parts['host'])}{parts['repository']}/"
    try:
        with httpx.Client(
            base_url=root, auth=_Anonymous(), follow_redirects=True, timeout=10
        ) as client:
            return _read(client, parts["tag"])
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        raise PlatformError(
            f"{host} answers with status {status} when asked for {name}",
            next_step="check that the image and its tag exist, and that no login is needed",
        ) from error
    except httpx.HTTPError as error:
        raise PlatformError(
            f"the registry {host} is not reachable: {error}",
            next_step="run the command again on a machine that reaches the registry",
        ) from error
    except ValidationError as error:
        raise PlatformError(
            f"{host} does not describe {name} as an image for Linux: {error}",
            next_step=f"check that {root}manifests/{parts['tag']} is answered by the registry",
        ) from error


def _read(client: httpx.Client, tag: str) -> Published:
    answer = _get(client, f"manifests/{tag}")
    manifest = _MANIFEST.validate_json(answer)
    if isinstance(manifest, _Index):
        of_linux = next(
            (m.digest for m in manifest.manifests if m.platform and m.platform.os == "linux"), ""
        )
        manifest = _Image.model_validate_json(_get(client, f"manifests/{of_linux}"))
    config = _Config.model_validate_json(_get(client, f"blobs/{manifest.config.digest}"))
    return Published(f"sha256:{hashlib.sha256(answer).hexdigest()}", config.created)


def _get(client: httpx.Client, path: str) -> bytes:
    return client.get(path, headers={"Accept": _MANIFESTS}).raise_for_status().content


def _root(host: str) -> str:
    if host == "docker.io":
        return DOCKER_HUB
    return f"{'http' if is_on_this_machine(host) else 'https'}://{host}/v2/"


def is_on_this_machine(address: str) -> bool:
    """Return whether HOST[:PORT][/...] is on loopback, where Docker too expects no certificate."""
    return re.match(r"(localhost|127[.0-9]+)([:/]|$)", address) is not None


@dataclass
class _Anonymous(httpx.Auth):
    """Get the token without which registries such as Docker Hub serve not even public images."""

    requires_response_body = True
    _headers: dict[str, str] = field(default_factory=dict)

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers.update(self._headers)
        answer = yield request
        scheme, _, challenge = answer.headers.get("WWW-Authenticate", "").partition(" ")
        parameters = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
        realm = parameters.pop("realm", "")
        if answer.status_code != httpx.codes.UNAUTHORIZED or scheme != "Bearer" or not realm:
            return
        # The extensions hold the timeout.
        issued = yield httpx.Request("GET", realm, params=parameters, extensions=request.extensions)
        if issued.is_success:
            token = _Token.model_validate_json(issued.content).token
            self._headers["Authorization"] = f"Bearer {token}"
            request.headers.update(self._headers)
            yield request
