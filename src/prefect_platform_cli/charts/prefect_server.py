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
    PolicyPort,
    Positive,
    Quantity,
    Resources,
    Scheduling,
    SecretKey,
    namespaces,
    resources,
)


class PreviousAuthString(Values):
    name: str = ""
    """Secret in the release's namespace."""
    key: NonEmpty = "auth-string"
    """Its key."""


class Auth(Values):
    existing_secret: str = "prefect-auth"  # noqa: S105  # its name
    """Secret in the release's namespace."""
    key: NonEmpty = "auth-string"
    """Its key; the value reads "user:password"."""
    previous_secret: PreviousAuthString = PreviousAuthString()
    """The auth string before this one. The API takes both while this is set: for as long as runs of
    before a rotation still have it."""


class PreviousEncryptionKey(Values):
    name: str = ""
    """Secret in the release's namespace."""
    key: NonEmpty = "key"
    """Its key."""


class Encryption(Values):
    existing_secret: str = "prefect-encryption"  # noqa: S105  # its name
    """Secret in the release's namespace."""
    key: NonEmpty = "key"
    """Its key."""
    previous_secret: PreviousEncryptionKey = PreviousEncryptionKey()
    """The key before this one, for the migration Job alone: it writes the blocks of that key again
    with this one. It may stay set."""


class SecretVersions(Values):
    auth: str = ""
    """Of auth.existingSecret: API and background services."""
    database: str = ""
    """Of database.passwordSecret, or of the connection URL: API, background services, and the
    embedded database, which gives its role the password."""
    encryption: str = ""
    """Of encryption.existingSecret: API and background services. With previousSecret the migration
    Job runs again, too."""
    redis: str = ""
    """Of redis.passwordSecret, or of the URL, in mode `ha`: API, background services and the
    embedded Redis."""


class Autoscaling(Values):
    enabled: bool = False
    """Let a HorizontalPodAutoscaler set the number of API pods; api.replicas is not looked at then.
    Needs the metrics API."""
    min_replicas: Positive = 2
    """Fewest pods."""
    max_replicas: Positive = 4
    """Most pods; the shares of the database's connections are made for so many."""
    cpu_utilization: Positive = 75
    """Percent of the CPU request at which pods are added."""


class Api(Extras):
    replicas: Count = 1
    """Number of pods; 0 to stop. More than 1 needs mode `ha`."""
    autoscaling: Autoscaling = Autoscaling()
    """In mode `ha`, pods by load."""
    migrations_timeout_seconds: Positive = 600
    """Seconds that a starting pod, of the API or the background services, waits for the migrations
    and Redis before it says why and tries again."""
    resources: Resources = resources("400m", "512Mi", memory_limit="1Gi")
    """The CPU request keeps bursts of job pods from starving the API; no CPU limit, because
    throttling it fails its probes."""


class BackgroundServices(Extras):
    replicas: Count = 1
    """Number of pods; they share the work. More than 1 needs mode `ha`."""
    resources: Resources = resources("200m", "384Mi", memory_limit="1Gi")
    """Of each pod."""


class Ui(Values):
    enabled: bool = True
    """Serve the user interface at the API's port."""


class Service(Values):
    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = "ClusterIP"
    """Kubernetes' own type. The last two open plain HTTP to the outside, unless a load balancer
    ends TLS before it."""
    annotations: dict[str, str] = {}
    """Annotations of the Service, such as a load balancer's."""


class IngressTls(Values):
    secret_name: str = ""
    """Secret of type kubernetes.io/tls, yours or cert-manager's. Empty: the controller's default
    certificate, or TLS that ends before the controller."""


class Ingress(Values):
    enabled: bool = False
    """Render an Ingress. It rewrites no path, so it serves any controller."""
    class_name: str = ""
    """IngressClass. Empty: the cluster's default."""
    annotations: dict[str, str] = {}
    """Annotations of the Ingress: cert-manager's, the controller's."""
    host: str = ""
    """Host name. Empty: the host of publicUrl."""
    tls: IngressTls = IngressTls()
    """TLS that ends at the controller."""


class HttpRoute(Values):
    enabled: bool = False
    """Render an HTTPRoute of the Gateway API, whose CRDs are in the cluster."""
    annotations: dict[str, str] = {}
    """Annotations of the HTTPRoute."""
    parent_refs: list[dict[str, Any]] = []
    """Gateways that take the route: Gateway API ParentReference items. They end TLS."""
    hostnames: list[NonEmpty] = []
    """Host names. Empty: the host of publicUrl."""


class Migrations(Scheduling):
    revision: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{12})?$")] = ""
    """The step before going back to an older image: the revision of the database that it needs,
    which it names in its log. The Job takes the database back to it, and no pod of API and
    background services runs until the older image is deployed without this value. Empty: the
    newest revision of the image."""
    may_lose: list[Annotated[str, StringConstraints(pattern=r"^[a-z_]+$")]] = []
    """Tables that the older Prefect does not have, and that may go with their rows. The Job refuses
    a way back that would lose rows of any other one."""
    active_deadline_seconds: Positive = 3600
    """Seconds that the Job may take, its wait for the database included. Index builds on large
    tables take long."""
    timeout_seconds: Positive = 600
    """Seconds that the Job waits for the database and for another migration."""
    resources: Resources = resources("200m", "256Mi", memory_limit="512Mi")
    """Of the Job's pod."""


class RetentionSweep(Scheduling):
    schedule: NonEmpty = "17 2 * * *"
    """When it runs, as cron, in the time zone of the cluster's controllers. One sweep at a time."""
    dry_run: bool = False
    """Count what would go, and delete nothing. Prefect's own vacuum deletes all the same."""
    active_deadline_seconds: Positive = 21600
    """Seconds that one sweep may take; the next goes on where it was ended."""
    resources: Resources = resources("100m", "64Mi", memory_limit="256Mi")
    """Of its pod."""


class ConnectionUrlSecret(Values):
    name: str = ""
    """Secret in the release's namespace."""
    key: NonEmpty = "connection-url"
    """Its key."""


class CertificateAuthoritySecret(Values):
    name: str = ""
    """Secret in the release's namespace; required by verify-ca and verify-full."""
    key: NonEmpty = "ca.crt"
    """Its key: certificates as PEM."""


class ClientCertificateSecret(Values):
    name: str = ""
    """Secret of type kubernetes.io/tls in the release's namespace."""


class DatabaseTls(Values):
    mode: Literal["disable", "prefer", "require", "verify-ca", "verify-full"] = "require"
    """libpq's sslmode. require encrypts and, without a CA, trusts any server; verify-ca asks for a
    certificate of caSecret, verify-full for one of this host too. `ssl` in a connection URL goes
    before it."""
    ca_secret: CertificateAuthoritySecret = CertificateAuthoritySecret()
    """The authority of the server's certificate. The system's authorities are not looked at."""
    client_certificate_secret: ClientCertificateSecret = ClientCertificateSecret()
    """Certificate and key that the server asks of its clients."""


class ExternalDatabase(Values):
    host: str = ""
    """Host of the server."""
    port: Annotated[int, Field(ge=1, le=65535)] = 5432
    """Port of the server."""
    connection_url_secret: ConnectionUrlSecret = ConnectionUrlSecret()
    """A whole URL, postgresql+asyncpg://USER:PASSWORD@HOST:PORT/NAME, with URL-encoded parts."""
    max_connections: Positive = 100
    """Connections that the server, or the pooler before it, has for this release; each process
    gets its share of them."""
    tls: DatabaseTls = DatabaseTls()
    """How every process of this release reaches it."""


class Storage(Values):
    size: Quantity = "8Gi"
    """Size of the volume."""
    storage_class_name: str = ""
    """Empty: the cluster's default StorageClass."""


PostgresParameters = Annotated[
    dict[str, str], Field(json_schema_extra={"propertyNames": {"pattern": "^[a-z_.]+$"}})
]


class EmbeddedDatabase(Scheduling):
    image: Image = Image(repository="postgres")
    """Any image with the interface of the official `postgres` image; it runs as uid 999."""
    parameters: PostgresParameters = {"max_connections": "100", "shared_buffers": "128MB"}
    """Settings of the server, each as `-c name=value`."""
    storage: Storage = Storage()
    """Where the data is kept."""
    resources: Resources = resources("400m", "256Mi", memory_limit="1Gi")
    """Of the server's pod."""


class CloudNativePg(Values):
    instances: Positive = 3
    """PostgreSQL pods: one primary, and replicas that the operator promotes when it is lost."""
    image_name: str = ""
    """Whole reference of a PostgreSQL image for the operator, with a fixed tag; no other registry
    takes its place. Empty: the operator's own default."""
    parameters: PostgresParameters = {"max_connections": "100", "shared_buffers": "128MB"}
    """Settings of the server; those that the operator keeps to itself are refused by it."""
    storage: Storage = Storage()
    """Where each instance keeps its data."""
    resources: Resources = resources("400m", "512Mi", memory_limit="1Gi")
    """Of each instance."""
    affinity: dict[str, Any] = {}
    """Where instances run: nodeSelector, tolerations, podAntiAffinityType and the other fields of
    the operator's AffinityConfiguration. By default they keep to different nodes where there are
    such."""
    priority_class_name: str = ""
    """PriorityClass of the instances. Empty: the cluster's default."""


class Database(Values):
    mode: Literal["embedded", "external", "cloudnative-pg"] = "embedded"
    """embedded: a PostgreSQL of this release, in one pod. external: yours. cloudnative-pg: a
    replicated Cluster that the operator CloudNativePG keeps for this release; the operator is
    installed before."""
    name: NonEmpty = "prefect"
    """Name of the database, in each mode unless a connection URL is given."""
    user: NonEmpty = "prefect"
    """Its user; it owns the database. In the embedded one it is the superuser."""
    password_secret: SecretKey = SecretKey(name="prefect-database", key="password")
    """The user's password; special characters are fine. In mode cloudnative-pg the Secret is of
    type kubernetes.io/basic-auth, and its username is the user above."""
    external: ExternalDatabase = ExternalDatabase()
    """Give either host, or connectionUrlSecret.name."""
    embedded: EmbeddedDatabase = EmbeddedDatabase()
    """The PostgreSQL of this release."""
    cloudnative_pg: CloudNativePg = CloudNativePg()
    """The Cluster of mode cloudnative-pg. Its clients verify its certificate in full."""


class RedisUrlSecret(Values):
    name: str = ""
    """Secret in the release's namespace."""
    key: NonEmpty = "url"
    """Its key."""


class ExternalRedis(Values):
    url_secret: RedisUrlSecret = RedisUrlSecret()
    """A URL, redis://USER:PASSWORD@HOST:PORT/DB or rediss:// with TLS, its parts URL-encoded and
    without a query. Each environment needs a DB of its own: Prefect's keys carry no prefix."""


class EmbeddedRedis(Scheduling):
    image: Image = Image(repository="redis")
    """Any image that has redis-server, 6.2 or newer; it runs as uid 999."""
    parameters: Annotated[
        dict[str, str], Field(json_schema_extra={"propertyNames": {"pattern": "^[a-z-]+$"}})
    ] = {"appendonly": "yes", "maxclients": "10000", "maxmemory-policy": "noeviction"}
    """Settings of the server, each as `--name value`. Evicted keys would be lost events."""
    storage: Storage = Storage(size="2Gi")
    """Where the append-only file is kept."""
    resources: Resources = resources("100m", "128Mi", memory_limit="512Mi")
    """Of the server's pod."""


class Redis(Values):
    mode: Literal["embedded", "external"] = "embedded"
    """embedded: a Redis of this release. external: yours."""
    password_secret: SecretKey = SecretKey(name="prefect-redis", key="password")
    """The embedded server's password, of letters, digits, `-`, `_`, `.` and `~`: it becomes part of
    a URL."""
    external: ExternalRedis = ExternalRedis()
    """Your Redis."""
    embedded: EmbeddedRedis = EmbeddedRedis()
    """The Redis of this release."""


class PolicyComponents(Values):
    api: bool = True
    """A policy for the API."""
    background_services: bool = True
    """One for the background services."""
    migrations: bool = True
    """One for the migration Job."""
    retention: bool = True
    """One for the retention sweep."""
    database: bool = True
    """One for the database of this release."""
    redis: bool = True
    """One for the Redis of this release."""


class NetworkPolicies(Values):
    enabled: bool = True
    """Nothing reaches a pod of this release, and it reaches nothing, unless it is named here: DNS
    in kube-system, the API from `apiClients`, database and Redis from this release. Without effect
    where the cluster's network does not enforce policies."""
    components: PolicyComponents = PolicyComponents()
    """Switch single ones off, where somebody else writes that policy."""
    api_clients: list[Peer] = [namespaces("prefect-workers", "flows-default")]
    """Who reaches the API from inside the cluster, as NetworkPolicyPeer items: workers, job
    pods."""
    api_proxies: list[Peer] = []
    """Who brings requests from outside, as NetworkPolicyPeer items: the pods of the ingress
    controller or the gateway; for a NodePort or LoadBalancer the addresses that reach the nodes.
    Needed by each of these ways in."""
    api_egress: list[EgressRule] = [EgressRule(to=PUBLIC, ports=[PolicyPort(port=443)])]
    """What API and background services reach besides DNS, database and Redis: notifications go to
    webhooks at public addresses. A webhook of your own network, and the SMTP server of emails, need
    a rule of their own; the list replaces this one."""
    external_database: EgressRule = EgressRule(ports=[PolicyPort(port=5432)])
    """Where the external database is."""
    external_redis: EgressRule = EgressRule(ports=[PolicyPort(port=6379)])
    """Where the external Redis is."""
    database_operator: list[Peer] = [
        Peer(
            namespace_selector={"matchLabels": {"kubernetes.io/metadata.name": "cnpg-system"}},
            pod_selector={"matchLabels": {"app.kubernetes.io/name": "cloudnative-pg"}},
        )
    ]
    """The operator CloudNativePG, which watches the instances of the database."""
    kubernetes_api: EgressRule = EgressRule(ports=[PolicyPort(port=443), PolicyPort(port=6443)])
    """Where the Kubernetes API is, for the instances of CloudNativePG alone. Its addresses differ
    from cluster to cluster, so the default names ports only: give `to` where you know it."""


class PrefectServer(Chart):
    """Values of prefect-server. Secrets are named here, never given."""

    mode: Literal["single", "ha"] = "single"
    """single: one pod is API and background services, its messaging in memory. ha: any number of
    API pods, background services in pods of their own, Redis between them; nothing stops when one
    pod does."""
    profile: Literal["development", "production"] = "development"
    """production refuses what loses data with a node, such as the embedded database, and what
    carries passwords in the clear."""
    global_: Annotated[Global, Field(alias="global")] = Global()
    """For this chart and those beside it in a parent chart."""
    image: Image = Image(repository="platform")
    """The image of API, background services and migration Job: the target `platform` of this
    repository's Dockerfile."""
    auth: Auth = Auth()
    """Basic authentication of the API and the user interface. Not optional: without it everyone
    who reaches the Service reads every block."""
    encryption: Encryption = Encryption()
    """The Fernet key that encrypts blocks in the database."""
    secret_versions: SecretVersions = SecretVersions()
    """Pods read a Secret as they start. Another text here, such as Terraform's number, makes new
    ones of all that have read it; see docs/operations/rotation.md."""
    api: Api = Api()
    """The API; in mode `single` with the background services."""
    background_services: BackgroundServices = BackgroundServices()
    """The background services of mode `ha`: scheduler, late runs, automations, events,
    retention."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Of the server's own log."""
    log_format: Literal["text", "json"] = "text"
    """Of the log of API and background services; json is one object a line, but for what they print
    as they start and say about their own health."""
    extra_env: list[EnvVar] = []
    """Further environment variables of API and background services: Kubernetes EnvVar items."""
    ui: Ui = Ui()
    """The user interface."""
    public_url: Annotated[
        str,
        StringConstraints(
            pattern=r"^(https?://[a-z0-9.-]+(:[0-9]+)?(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*)?$"
        ),
    ] = ""
    """Where people find the user interface, such as https://example.org/prefect; links in
    notifications lead there. Its path is a prefix of everything that the server answers, also
    inside the cluster: workers and job pods then use http://SERVICE:4200/prefect/api. Empty: no
    links, no prefix."""
    service: Service = Service()
    """The Service of API and user interface, at port 4200."""
    ingress: Ingress = Ingress()
    """A way in by an ingress controller."""
    http_route: HttpRoute = HttpRoute()
    """A way in by a Gateway."""
    migrations: Migrations = Migrations()
    """The Job that brings the database to the release of the image."""
    retention: Retention = Retention()
    """How long everything is kept: k8s/environments/NAME/retention.yaml, which both charts take.
    This one sets the periods of Prefect's database vacuum and of the sweep."""
    retention_sweep: RetentionSweep = RetentionSweep()
    """The CronJob that deletes from the database what Prefect's vacuum never does."""
    database: Database = Database()
    """PostgreSQL."""
    redis: Redis = Redis()
    """The broker of mode `ha`."""
    network_policies: NetworkPolicies = NetworkPolicies()
    """Who may speak with whom."""
    extra_objects: list[dict[str, Any]] = []
    """Further objects to install with the chart; templates in their strings are rendered."""
