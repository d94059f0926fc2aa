"""Values of the chart prefect-server."""

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from prefect_platform.retention_file import Retention
from prefect_platform.values import NonEmpty, Values
from prefect_platform_cli.charts.kubernetes_types import (
    PUBLIC,
    Chart,
    Count,
    EgressRule,
    EnvVar,
    Extras,
    Global,
    Image,
    Peer,
    PlatformImage,
    PolicyPort,
    Positive,
    Quantity,
    Resources,
    RunIdentity,
    Scheduling,
    SecretKey,
    namespaces,
    resources,
)


class AuthSecret(Values):
    name: str = "prefect-auth"
    """Name of the Secret, which has to exist in the release's namespace."""
    key: NonEmpty = "auth-string"
    """Key of the Secret that holds the auth string, as "user:password"."""


class PreviousAuthString(Values):
    name: str = ""
    """Name of the Secret, in the release's namespace. If empty, the API accepts the current auth
    string only."""
    key: NonEmpty = "auth-string"
    """Key of the Secret that holds the previous auth string, as "user:password"."""


class Auth(Values):
    secret: AuthSecret = AuthSecret()
    """The auth string."""
    previous_secret: PreviousAuthString = PreviousAuthString()
    """The previous auth string. While it is set, the API accepts both auth strings. Set it when you
    rotate the auth string, and remove it when people and programs outside the cluster have the new
    one; without run identity, when no worker and no run that started before the rotation is left.
    See docs/operations/rotation.md."""
    run_identity: RunIdentity = RunIdentity()
    """Let the pods of prefect-worker use the API with their tokens: a flow run for its own objects
    only. Set it in the chart prefect-worker to the same values."""
    workers: Annotated[
        dict[str, SecretKey],
        Field(json_schema_extra={"propertyNames": {"pattern": "^[A-Za-z0-9_-]+$"}}),
    ] = {}
    """Passwords of workers outside the cluster, by the name of their work pool. Such a worker has
    the auth string `POOL:PASSWORD`, which opens what a worker of the pool may use and nothing else.
    It requires run identity. See docs/operations/run-identity.md."""


class EncryptionSecret(Values):
    name: str = "prefect-encryption"
    """Name of the Secret, which has to exist in the release's namespace."""
    key: NonEmpty = "key"
    """Key of the Secret that holds the Fernet key."""


class PreviousEncryptionKey(Values):
    name: str = ""
    """Name of the Secret, in the release's namespace. If empty, blocks are not re-encrypted."""
    key: NonEmpty = "key"
    """Key of the Secret that holds the previous Fernet key."""


class Encryption(Values):
    secret: EncryptionSecret = EncryptionSecret()
    """The current encryption key."""
    previous_secret: PreviousEncryptionKey = PreviousEncryptionKey()
    """The previous encryption key. Set it when you rotate the key: the migration Job then
    re-encrypts every block that was encrypted with the previous key. Only that Job reads it, and it
    may stay set."""


class SecretVersions(Values):
    auth: str = ""
    """Version of auth.secret. A new text restarts the API and the background services."""
    database: str = ""
    """Version of database.passwordSecret, or of database.external.connectionUrlSecret. A new text
    restarts the API, the background services and the embedded database, which then sets the new
    password for its role."""
    encryption: str = ""
    """Version of encryption.secret. A new text restarts the API and the background
    services. With encryption.previousSecret it also runs the migration Job again."""
    redis: str = ""
    """Version of redis.passwordSecret, or of redis.external.urlSecret, in mode `ha`. A new text
    restarts the API, the background services and the embedded Redis."""


class Autoscaling(Values):
    enabled: bool = False
    """Create a HorizontalPodAutoscaler that sets the number of API pods. `api.replicas` is then
    ignored. It needs mode `ha` and a metrics API in the cluster."""
    min_replicas: Positive = 2
    """Smallest number of API pods."""
    max_replicas: Positive = 4
    """Largest number of API pods. Each process's share of the database connections is calculated
    for this number."""
    cpu_utilization: Positive = 75
    """Average CPU utilization, in percent of the CPU request, above which pods are added."""


class ApiCertificateSecret(Values):
    name: str = ""
    """Name of a Secret of type kubernetes.io/tls in the release's namespace. The certificate has to
    be valid for the host name in `api.url` of prefect-worker."""


class IssuerRef(Values):
    name: str = ""
    """Name of the issuer. If empty, no Certificate is created."""
    kind: NonEmpty = "Issuer"
    """Kind of the issuer: Issuer (in the release's namespace) or ClusterIssuer."""
    group: NonEmpty = "cert-manager.io"
    """API group of the issuer."""


class CertManager(Values):
    issuer_ref: IssuerRef = IssuerRef()
    """Issuer that signs the certificate. It has to sign names such as
    prefect-server.prefect.svc.cluster.local, which public authorities do not."""


class ApiTls(Values):
    enabled: bool = False
    """Serve HTTPS instead of HTTP. It needs a certificate: set either `secret.name` or
    `certManager.issuerRef.name`."""
    secret: ApiCertificateSecret = ApiCertificateSecret()
    """Certificate and key that you create yourself."""
    cert_manager: CertManager = CertManager()
    """Certificate that cert-manager creates and renews, for all names of the Service."""


class Storage(Values):
    size: Quantity = "8Gi"
    """Size of the volume, such as 8Gi."""
    storage_class_name: str = ""
    """Name of the StorageClass. If empty, the cluster's default StorageClass is used."""


class Api(Extras):
    replicas: Count = 1
    """Number of API pods. 0 stops the API. More than 1 needs mode `ha`."""
    autoscaling: Autoscaling = Autoscaling()
    """Scales the API pods by CPU utilization. It needs mode `ha`, and is off by default."""
    migrations_timeout_seconds: Positive = 600
    """Seconds that a starting pod of the API or the background services waits for the migrations,
    and in mode `ha` for Redis. After that it fails with the reason in its log, and Kubernetes
    starts it again."""
    tls: ApiTls = ApiTls()
    """TLS of the API and the user interface on port 4200, off by default. Set `api.url` and
    `api.certificateAuthority` of prefect-worker to match. A renewed certificate is served without a
    restart. See docs/operations/tls.md."""
    leases: Storage = Storage(size="1Gi")
    """Volume of mode `single` for the leases of concurrency slots, so that runs keep their slots
    when the pod is replaced. A few MiB are used. Mode `ha` keeps leases in Redis. See
    docs/operations/concurrency.md."""
    resources: Resources = resources("400m", "512Mi", memory_limit="1Gi")
    """Resources of each API pod. The CPU request keeps bursts of job pods from starving the API. By
    default there is no CPU limit, because a throttled API fails its probes."""


class BackgroundServices(Extras):
    replicas: Count = 1
    """Number of pods, which share the work. More than 1 needs mode `ha`."""
    resources: Resources = resources("200m", "384Mi", memory_limit="1Gi")
    """Resources of each pod of the background services."""


class Ui(Values):
    enabled: bool = True
    """Serve the user interface on the API's port. Set it to false to serve the API alone."""
    image_origins: list[
        Annotated[str, StringConstraints(pattern=r"^https?://(\*\.)?[a-z0-9.-]+(:[0-9]+)?$")]
    ] = []
    """Origins that the user interface may load images from, in addition to its own, such as
    https://images.example.org. By default there are none, so the image of an artifact that is
    hosted elsewhere does not appear; see docs/operations/expose.md."""


class Service(Values):
    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = "ClusterIP"
    """Type of the Service: ClusterIP (reachable from inside the cluster only), NodePort or
    LoadBalancer. Without `api.tls`, the last two expose plain HTTP outside the cluster, unless a
    load balancer in front terminates TLS."""
    annotations: dict[str, str] = {}
    """Annotations added to the Service, such as those of a cloud's load balancer."""


class IngressTls(Values):
    secret_name: str = ""
    """Name of a Secret of type kubernetes.io/tls, created by you or by cert-manager. If empty, the
    Ingress has no TLS section: the controller uses its default certificate, or TLS is terminated in
    front of it."""


class Ingress(Values):
    enabled: bool = False
    """Create an Ingress. It rewrites no paths, so it works with every ingress controller."""
    class_name: str = ""
    """Name of the IngressClass. If empty, the cluster's default class is used."""
    annotations: dict[str, str] = {}
    """Annotations added to the Ingress, such as those of cert-manager or of the controller."""
    host: str = ""
    """Host name of the Ingress. If empty, the host of `publicUrl` is used."""
    tls: IngressTls = IngressTls()
    """TLS that the ingress controller terminates."""


class HttpRoute(Values):
    enabled: bool = False
    """Create an HTTPRoute. The CRDs of the Gateway API have to be installed in the cluster."""
    annotations: dict[str, str] = {}
    """Annotations added to the HTTPRoute."""
    parent_refs: list[dict[str, Any]] = []
    """Gateways that the route attaches to, as a list of Gateway API ParentReferences. Required with
    `httpRoute.enabled`. The Gateways terminate TLS."""
    hostnames: list[NonEmpty] = []
    """Host names of the route. If empty, the host of `publicUrl` is used."""


class Migrations(Scheduling):
    revision: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{12})?$")] = ""
    """Database revision to downgrade to before you roll back to an older image; that image prints
    the revision that it needs in its log. While it is set, the migration Job downgrades the
    database and no pod of the API or the background services runs. Then deploy the older image
    without this value. If empty, the Job upgrades the database to the newest revision of the image;
    see docs/operations/upgrade.md."""
    may_lose: list[Annotated[str, StringConstraints(pattern=r"^[a-z_]+$")]] = []
    """Tables that a downgrade may drop together with their rows, because the older Prefect does not
    have them. The Job refuses a downgrade that would drop any other table that has rows. It may be
    set only together with `migrations.revision`."""
    active_deadline_seconds: Positive = 3600
    """Seconds after which the Job is stopped, including the time that it waits for the database.
    Raise it when indexes are built on large tables."""
    timeout_seconds: Positive = 600
    """Seconds that the Job waits for the database, and for another migration to finish."""
    resources: Resources = resources("200m", "256Mi", memory_limit="512Mi")
    """Resources of the migration Job's pod."""


class RetentionSweep(Scheduling):
    schedule: NonEmpty = "17 2 * * *"
    """When the sweep runs, as a cron expression in the time zone of the cluster's controller
    manager. By default it runs daily at 02:17. Two sweeps never run at the same time."""
    dry_run: bool = False
    """Count the rows that the sweep would delete, and delete nothing. Prefect's own vacuum is not
    affected and still deletes."""
    active_deadline_seconds: Positive = 21600
    """Seconds after which a sweep is stopped. The next sweep continues where it left off."""
    resources: Resources = resources("100m", "64Mi", memory_limit="256Mi")
    """Resources of the sweep's pod."""


class ConnectionUrlSecret(Values):
    name: str = ""
    """Name of the Secret, in the release's namespace. If empty, `host` is used."""
    key: NonEmpty = "connection-url"
    """Key of the Secret that holds the connection URL."""


class CertificateAuthoritySecret(Values):
    name: str = ""
    """Name of the Secret, in the release's namespace. The modes verify-ca and verify-full require
    it."""
    key: NonEmpty = "ca.crt"
    """Key of the Secret that holds the CA certificates, in PEM format."""


class ClientCertificateSecret(Values):
    name: str = ""
    """Name of a Secret of type kubernetes.io/tls in the release's namespace. If empty, no client
    certificate is sent."""


class DatabaseTls(Values):
    mode: Literal["disable", "prefer", "require", "verify-ca", "verify-full"] = "require"
    """How connections are encrypted and verified, as libpq's sslmode: disable (no TLS), prefer (TLS
    if the server offers it), require (TLS; without a CA any server is trusted), verify-ca (the
    server's certificate has to be signed by the CA of `caSecret`) or verify-full (it also has to be
    issued for this host). A parameter `ssl` in a connection URL takes precedence."""
    ca_secret: CertificateAuthoritySecret = CertificateAuthoritySecret()
    """Certificate authority that signed the server's certificate. The system's certificate
    authorities are not used."""
    client_certificate_secret: ClientCertificateSecret = ClientCertificateSecret()
    """Client certificate and key, if the server asks its clients for one."""


class ExternalDatabase(Values):
    host: str = ""
    """Host name of the database server. Leave it empty if you set `connectionUrlSecret.name`."""
    port: Annotated[int, Field(ge=1, le=65535)] = 5432
    """Port of the database server."""
    connection_url_secret: ConnectionUrlSecret = ConnectionUrlSecret()
    """Complete connection URL, as postgresql+asyncpg://USER:PASSWORD@HOST:PORT/NAME with
    URL-encoded parts. It replaces `host`, `port`, `database.name`, `database.user` and
    `database.passwordSecret`."""
    max_connections: Positive = 100
    """Number of connections that the server, or the pooler in front of it, allows for this release.
    Each process gets a share of them; the chart refuses a number that leaves a process fewer than
    5."""
    tls: DatabaseTls = DatabaseTls()
    """TLS of the connections from all processes of this release to the database."""


PostgresParameters = Annotated[
    dict[str, str], Field(json_schema_extra={"propertyNames": {"pattern": "^[a-z_.]+$"}})
]


class EmbeddedDatabase(Scheduling):
    image: Image = Image(repository="postgres", tag="15")
    """Image of PostgreSQL. Any image with the interface of the official `postgres` image works. It
    runs as user ID 999. The default tag names the major version that this repository's image has;
    the data of one major version cannot be read by another."""
    parameters: PostgresParameters = {"max_connections": "100", "shared_buffers": "128MB"}
    """PostgreSQL settings, each passed to the server as `-c name=value`."""
    storage: Storage = Storage()
    """Volume that holds the data."""
    resources: Resources = resources("400m", "256Mi", memory_limit="1Gi")
    """Resources of the database's pod."""


class CloudNativePg(Values):
    instances: Positive = 3
    """Number of PostgreSQL pods: one primary and its replicas. The operator promotes a replica when
    the primary is lost. The profile `production` requires at least 2."""
    image_name: str = ""
    """Complete reference of a PostgreSQL image for the operator, with a fixed tag.
    `global.imageRegistry` does not apply to it. If empty, the operator's default image is used."""
    parameters: PostgresParameters = {"max_connections": "100", "shared_buffers": "128MB"}
    """PostgreSQL settings. The operator refuses those that it manages itself."""
    storage: Storage = Storage()
    """Volume that holds the data of each instance."""
    resources: Resources = resources("400m", "512Mi", memory_limit="1Gi")
    """Resources of each instance."""
    affinity: dict[str, Any] = {}
    """Where the instances run, as the operator's AffinityConfiguration: nodeSelector, tolerations,
    podAntiAffinityType and others. By default the instances run on different nodes where
    possible."""
    priority_class_name: str = ""
    """PriorityClass of the instances. If empty, the cluster's default applies."""


class Database(Values):
    mode: Literal["embedded", "external", "cloudnative-pg"] = "embedded"
    """Where PostgreSQL runs: embedded (in one pod of this release), external (a database of your
    own) or cloudnative-pg (a replicated Cluster that the operator CloudNativePG runs for this
    release; install the operator first). See docs/operations/database.md."""
    name: NonEmpty = "prefect"
    """Name of the database. It is ignored if you set a connection URL."""
    user: NonEmpty = "prefect"
    """User that owns the database. In mode `embedded` it is the superuser. It is ignored if you set
    a connection URL."""
    password_secret: SecretKey = SecretKey(name="prefect-database", key="password")
    """Password of the user. It may contain special characters. In mode `cloudnative-pg` the Secret
    has to be of type kubernetes.io/basic-auth, with `database.user` as its username. It is ignored
    if you set a connection URL."""
    external: ExternalDatabase = ExternalDatabase()
    """Your database in mode `external`. Set either `host` or `connectionUrlSecret.name`."""
    embedded: EmbeddedDatabase = EmbeddedDatabase()
    """The PostgreSQL of this release in mode `embedded`: one pod with one volume. The profile
    `production` refuses it."""
    cloudnative_pg: CloudNativePg = CloudNativePg()
    """The Cluster of mode `cloudnative-pg`. Its clients connect with verify-full."""


class RedisUrlSecret(Values):
    name: str = ""
    """Name of the Secret, in the release's namespace. Required with `redis.mode` `external`."""
    key: NonEmpty = "url"
    """Key of the Secret that holds the URL."""


class ExternalRedis(Values):
    url_secret: RedisUrlSecret = RedisUrlSecret()
    """URL of your Redis, as redis://USER:PASSWORD@HOST:PORT/DB, or rediss:// for TLS, with
    URL-encoded parts and without a query. Give each environment a DB of its own: Prefect's keys
    have no prefix."""


class EmbeddedRedis(Scheduling):
    image: Image = Image(repository="redis", tag="7.0")
    """Image of Redis. Any image with redis-server 6.2 or newer works. It runs as user ID 999."""
    parameters: Annotated[
        dict[str, str], Field(json_schema_extra={"propertyNames": {"pattern": "^[a-z-]+$"}})
    ] = {"appendonly": "yes", "maxclients": "10000", "maxmemory-policy": "noeviction"}
    """Redis settings, each passed to the server as `--name value`. Keep maxmemory-policy at
    noeviction: an evicted key is a lost event. maxmemory is 60% of the container's memory limit
    unless you set it here."""
    storage: Storage = Storage(size="2Gi")
    """Volume that holds the append-only file."""
    resources: Resources = resources("100m", "128Mi", memory_limit="512Mi")
    """Resources of Redis's pod."""


class Redis(Values):
    mode: Literal["embedded", "external"] = "embedded"
    """Where Redis runs: embedded (in one pod of this release) or external (a Redis of your own)."""
    password_secret: SecretKey = SecretKey(name="prefect-redis", key="password")
    """Password of the embedded Redis. It may contain letters, digits, `-`, `_`, `.` and `~` only,
    because it becomes part of a URL."""
    external: ExternalRedis = ExternalRedis()
    """Your Redis in mode `external`."""
    embedded: EmbeddedRedis = EmbeddedRedis()
    """The Redis of this release in mode `embedded`."""


HostName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")]


class Notifications(Values):
    hosts: list[HostName] | Literal["any"] | None = None
    """Hosts that notifications and webhooks of automations may be sent to: the host names of the
    URLs and SMTP servers in their blocks, such as hooks.slack.com. The server refuses every other
    host, also if a receiver redirects to it. `[]` allows none, and `any` allows all, as when it is
    not set. The profile `production` requires it; see
    docs/operations/alerts.md#declare-the-hosts-of-your-channels."""


class PolicyComponents(Values):
    api: bool = True
    """Create the NetworkPolicy of the API."""
    background_services: bool = True
    """Create the NetworkPolicy of the background services."""
    migrations: bool = True
    """Create the NetworkPolicy of the migration Job."""
    retention: bool = True
    """Create the NetworkPolicy of the retention sweep."""
    database: bool = True
    """Create the NetworkPolicy of the database, in the modes `embedded` and `cloudnative-pg`."""
    redis: bool = True
    """Create the NetworkPolicy of the embedded Redis."""


class NetworkPolicies(Values):
    enabled: bool = True
    """Create NetworkPolicies for the pods of this release. They allow DNS in kube-system,
    connections to the API from `apiClients` and `apiProxies`, connections of this release to its
    database and Redis, and the egress that is listed below. All other traffic is denied. They have
    no effect if the cluster's network does not enforce NetworkPolicies; see
    docs/operations/network-policies.md. If you set it to false, also remove the NetworkPolicy
    `default-deny` that the environment's namespaces.yaml creates in the release's namespace:
    otherwise it blocks all traffic of these pods."""
    components: PolicyComponents = PolicyComponents()
    """Turn off single NetworkPolicies if you manage them elsewhere."""
    api_clients: list[Peer] = [namespaces("prefect-workers", "flows-default")]
    """Pods in the cluster that may connect to the API, as a list of NetworkPolicyPeers: workers and
    job pods. Add the namespaces of other pools."""
    api_proxies: list[Peer] = []
    """Sources of requests from outside the cluster, as a list of NetworkPolicyPeers: the pods of
    the ingress controller or gateway, or for a NodePort or LoadBalancer the addresses of its
    clients as the nodes see them. Required if the API is exposed by an Ingress, an HTTPRoute or
    such a Service."""
    api_egress: list[EgressRule] = [EgressRule(to=PUBLIC, ports=[PolicyPort(port=443)])]
    """What the API and the background services may connect to besides DNS, the database and Redis.
    The default allows HTTPS to public addresses, for notifications by webhook. Private addresses,
    the metadata services of clouds, and IPv4 addresses through NAT64 are excluded; if your nodes,
    pods or Services have public addresses, add those to `except`. Add a rule for a webhook in your
    own network and for an SMTP server. A list that you set replaces the default."""
    external_database: EgressRule = EgressRule(ports=[PolicyPort(port=5432)])
    """Where the external database is. The default allows port 5432 of every address; set `to` to
    narrow it."""
    external_redis: EgressRule = EgressRule(ports=[PolicyPort(port=6379)])
    """Where the external Redis is. The default allows port 6379 of every address; set `to` to
    narrow it."""
    database_operator: list[Peer] = [
        Peer(
            namespace_selector={"matchLabels": {"kubernetes.io/metadata.name": "cnpg-system"}},
            pod_selector={"matchLabels": {"app.kubernetes.io/name": "cloudnative-pg"}},
        )
    ]
    """Pods of the operator CloudNativePG, which connects to the instances of the database to
    monitor them."""
    kubernetes_api: EgressRule = EgressRule(ports=[PolicyPort(port=443), PolicyPort(port=6443)])
    """Where the Kubernetes API is. The instances of CloudNativePG may connect to it, and with
    `auth.runIdentity` the API. Its addresses differ between clusters, so the default allows two
    ports of every address; set `to` to the addresses. `profile: production` requires it."""


class PrefectServer(Chart):
    """Values of the chart prefect-server. They name Secrets and never contain them."""

    mode: Literal["single", "ha"] = "single"
    """How the server runs: single (one pod runs the API and the background services, with messaging
    in memory) or ha (any number of API pods and of background-service pods, with Redis between
    them, so that the loss of one pod stops nothing)."""
    profile: Literal["development", "production"] = "development"
    """Which values the chart accepts: development (every valid combination) or production (it
    refuses values with which data is lost together with a node, such as the embedded database,
    values with which passwords cross the network unencrypted, notifications to undeclared hosts,
    and the default tag of `image`)."""
    global_: Annotated[Global, Field(alias="global")] = Global()
    """Values that this chart shares with the other charts of a parent chart."""
    image: PlatformImage = PlatformImage(repository="platform")
    """Image of the API, the background services, the migration Job and the retention sweep: the
    target `platform` of this repository's Dockerfile."""
    auth: Auth = Auth()
    """Basic authentication of the API and the user interface. It cannot be turned off: without it,
    everyone who can reach the Service could read every block."""
    encryption: Encryption = Encryption()
    """The Fernet key that encrypts the blocks in the database."""
    secret_versions: SecretVersions = SecretVersions()
    """Versions of the Secrets. A pod reads a Secret only when it starts, so a changed Secret needs
    new pods. Set a version to any new text, such as Terraform's version number, to restart the pods
    that read the Secret. If empty, a changed Secret restarts nothing; see
    docs/operations/rotation.md."""
    api: Api = Api()
    """The API. In mode `single` its pod also runs the background services."""
    background_services: BackgroundServices = BackgroundServices()
    """The background services, which have pods of their own in mode `ha`: the scheduler, the
    detection of late runs, automations, events and Prefect's own vacuum."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Level of the server's own log: DEBUG, INFO, WARNING or ERROR."""
    log_format: Literal["text", "json"] = "text"
    """Format of the log of the API and the background services: text, or json (one JSON object per
    line). The lines that they print at startup and about their own health are always text."""
    extra_env: list[EnvVar] = []
    """Environment variables added to the API and the background services, as a list of Kubernetes
    EnvVars. The chart refuses variables that have a value of their own here, such as the connection
    to the database."""
    notifications: Notifications = Notifications()
    """Where the API and the background services may send notifications to."""
    ui: Ui = Ui()
    """The user interface."""
    public_url: Annotated[
        str,
        StringConstraints(
            pattern=r"^(https?://[a-z0-9.-]+(:[0-9]+)?(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*)?$"
        ),
    ] = ""
    """URL at which people open the user interface, such as https://example.org/prefect. Links in
    notifications point to it. Its path becomes the prefix of everything that the server serves,
    also inside the cluster: workers and job pods then use http://SERVICE:4200/prefect/api. If
    empty, notifications contain no links and there is no prefix; see docs/operations/expose.md."""
    service: Service = Service()
    """The Service of the API and the user interface, on port 4200."""
    ingress: Ingress = Ingress()
    """Exposes the API and the user interface through an ingress controller."""
    http_route: HttpRoute = HttpRoute()
    """Exposes the API and the user interface through a Gateway."""
    migrations: Migrations = Migrations()
    """The Job that migrates the database to the release of Prefect in the image."""
    retention: Retention = Retention()
    """How long everything is kept. A period is a whole number with a unit: m (minutes), h (hours)
    or d (days). Both charts read these periods from k8s/environments/NAME/retention.yaml. This
    chart configures Prefect's database vacuum and the retention sweep with them; see
    docs/operations/retention.md."""
    retention_sweep: RetentionSweep = RetentionSweep()
    """The CronJob that deletes the old rows that Prefect's own database vacuum never deletes."""
    database: Database = Database()
    """The PostgreSQL database of the server."""
    redis: Redis = Redis()
    """The Redis that API and background services share in mode `ha`. It is unused in mode
    `single`."""
    network_policies: NetworkPolicies = NetworkPolicies()
    """The allowed network traffic of the pods of this release."""
    extra_objects: list[dict[str, Any]] = []
    """Kubernetes objects to install with the chart. Template expressions in them are rendered."""
