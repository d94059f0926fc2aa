"""Values of the chart prefect-server."""

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from prefect_platform.values.kubernetes_types import (
    Count,
    EgressRule,
    EnvVar,
    Extras,
    Global,
    Image,
    NonEmpty,
    Peer,
    PolicyPort,
    Positive,
    Quantity,
    Resources,
    Scheduling,
    SecretKey,
    Values,
    namespaces,
    resources,
)


class Auth(Values):
    existing_secret: str = "prefect-auth"  # noqa: S105  # its name
    """Secret in the release's namespace."""
    key: NonEmpty = "auth-string"
    """Its key; the value reads "user:password"."""


class Encryption(Values):
    existing_secret: str = "prefect-encryption"  # noqa: S105  # its name
    """Secret in the release's namespace."""
    key: NonEmpty = "key"
    """Its key."""


class Api(Extras):
    replicas: Count = 1
    """1, or 0 to stop. The background services run in this pod and its messaging is in memory, so
    that a second pod would not see the events of the first."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Of the server's own log."""
    migrations_timeout_seconds: Positive = 600
    """Seconds that a starting pod waits for the migrations before it says why and tries again."""
    extra_env: list[EnvVar] = []
    """Further environment variables: Kubernetes EnvVar items."""
    resources: Resources = resources("400m", "512Mi", memory_limit="1Gi")
    """The CPU request keeps bursts of job pods from starving the API; no CPU limit, because
    throttling it fails its probes."""


class Ui(Values):
    enabled: bool = True
    """Serve the user interface at the API's port."""
    api_url: Annotated[str, StringConstraints(pattern=r"^(/|https?://)")] = "/api"
    """Where a browser finds the API. A path is relative to the page, so it is right behind any
    host name, TLS terminator or port-forward."""


class Migrations(Scheduling):
    active_deadline_seconds: Positive = 3600
    """Seconds that the Job may take, its wait for the database included. Index builds on large
    tables take long."""
    timeout_seconds: Positive = 600
    """Seconds that the Job waits for the database and for another migration."""
    resources: Resources = resources("200m", "256Mi", memory_limit="512Mi")
    """Of the Job's pod."""


class ConnectionUrlSecret(Values):
    name: str = ""
    """Secret in the release's namespace."""
    key: NonEmpty = "connection-url"
    """Its key."""


class ExternalDatabase(Values):
    host: str = ""
    """Host of the server."""
    port: Annotated[int, Field(ge=1, le=65535)] = 5432
    """Port of the server."""
    connection_url_secret: ConnectionUrlSecret = ConnectionUrlSecret()
    """A whole URL, postgresql+asyncpg://USER:PASSWORD@HOST:PORT/NAME, with URL-encoded parts."""


class Storage(Values):
    size: Quantity = "8Gi"
    """Size of the volume."""
    storage_class_name: str = ""
    """Empty: the cluster's default StorageClass."""


class EmbeddedDatabase(Scheduling):
    image: Image = Image(repository="postgres")
    """Any image with the interface of the official `postgres` image; it runs as uid 999."""
    parameters: Annotated[
        dict[str, str], Field(json_schema_extra={"propertyNames": {"pattern": "^[a-z_.]+$"}})
    ] = {"max_connections": "100", "shared_buffers": "128MB"}
    """Settings of the server, each as `-c name=value`."""
    storage: Storage = Storage()
    """Where the data is kept."""
    resources: Resources = resources("400m", "256Mi", memory_limit="1Gi")
    """Of the server's pod."""


class Database(Values):
    mode: Literal["embedded", "external"] = "embedded"
    """embedded: a PostgreSQL of this release. external: yours."""
    name: NonEmpty = "prefect"
    """Name of the database, in both modes unless a connection URL is given."""
    user: NonEmpty = "prefect"
    """Its user; it owns the database. In the embedded one it is the superuser."""
    password_secret: SecretKey = SecretKey(name="prefect-database", key="password")
    """The user's password; special characters are fine."""
    external: ExternalDatabase = ExternalDatabase()
    """Give either host, or connectionUrlSecret.name."""
    embedded: EmbeddedDatabase = EmbeddedDatabase()
    """The PostgreSQL of this release."""


class NetworkPolicies(Values):
    enabled: bool = True
    """Nothing reaches a pod of this release, and it reaches nothing, unless it is named here: DNS
    in kube-system, the API from `apiClients`, the database from API and migrations. Without effect
    where the cluster's network does not enforce policies."""
    api_clients: list[Peer] = [namespaces("prefect-workers", "flows-default")]
    """Who reaches the API, as NetworkPolicyPeer items: workers, job pods, an ingress."""
    api_egress: list[EgressRule] = [EgressRule(ports=[PolicyPort(port=443)])]
    """What the API reaches besides DNS and database: notifications go to webhooks outside."""
    external_database: EgressRule = EgressRule(ports=[PolicyPort(port=5432)])
    """Where the external database is, for API and migrations."""


class PrefectServer(Values):
    """Values of prefect-server. Secrets are named here, never given."""

    global_: Annotated[Global, Field(alias="global")] = Global()
    """For this chart and those beside it in a parent chart."""
    image: Image = Image(repository="platform")
    """The image of the API and of the migration Job: the target `platform` of this repository's
    Dockerfile."""
    auth: Auth = Auth()
    """Basic authentication of the API and the user interface. Not optional: without it everyone
    who reaches the Service reads every block."""
    encryption: Encryption = Encryption()
    """The Fernet key that encrypts blocks in the database."""
    api: Api = Api()
    """The API, with the background services."""
    ui: Ui = Ui()
    """The user interface."""
    migrations: Migrations = Migrations()
    """The Job that brings the database to the release of the image."""
    database: Database = Database()
    """PostgreSQL."""
    network_policies: NetworkPolicies = NetworkPolicies()
    """Who may speak with whom."""
    extra_objects: list[dict[str, Any]] = []
    """Further objects to install with the chart; templates in their strings are rendered."""
