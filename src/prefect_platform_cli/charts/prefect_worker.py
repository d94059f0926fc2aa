"""Values of the chart prefect-worker."""

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from prefect_platform.retention_file import Retention
from prefect_platform.values import NonEmpty, Values
from prefect_platform_cli.charts.kubernetes_types import (
    Amounts,
    Chart,
    Count,
    EgressRule,
    EnvVar,
    Extras,
    Global,
    Peer,
    PlatformImage,
    PolicyPort,
    Positive,
    Quantity,
    Resources,
    RunIdentity,
    Scheduling,
    resources,
)
from prefect_platform_cli.charts.overrides import overrides


class CertificateAuthority(Values):
    kind: Literal["ConfigMap", "Secret"] = "ConfigMap"
    """Kind of the object that holds the certificate authority: ConfigMap or Secret."""
    name: str = ""
    """Name of the object, which has to exist in the release's namespace and in each namespace of
    job pods. If empty, the public certificate authorities are trusted."""
    key: NonEmpty = "ca.crt"
    """Key of the object that holds the CA certificates, in PEM format."""


class Api(Values):
    url: Annotated[str, StringConstraints(pattern=r"^https?://.*/api$")] = (
        "http://prefect-server.prefect.svc.cluster.local:4200/api"
    )
    """URL of prefect-server's API, ending in /api, as the workers and the job pods reach it. The
    default is the Service of a release named prefect-server in the namespace prefect. If
    prefect-server has `api.tls`, the URL begins with https."""
    certificate_authority: CertificateAuthority = CertificateAuthority()
    """Certificate authority that signed the API's certificate. Prefect trusts it instead of the
    public ones, for the API only: connections of flows to other servers, such as object stores, are
    not affected. See docs/operations/tls.md."""


class AuthSecret(Values):
    name: str = "prefect-auth"
    """Name of the Secret."""
    key: NonEmpty = "auth-string"
    """Key of the Secret that holds the auth string, as "user:password"."""


class Auth(Values):
    secret: AuthSecret = AuthSecret()
    """The auth string, which is used only without run identity. Its Secret then has to exist in the
    release's namespace and in each namespace of job pods."""
    run_identity: RunIdentity = RunIdentity()
    """Let each pod use the API with its token instead of the auth string: a flow run for its own
    objects only, the worker for its work pool, the reaper and the configuration for their tasks.
    Both charts need the same values. To turn it on, upgrade prefect-server first; to turn it off,
    upgrade prefect-worker first. If false, each pod holds the auth string, and a flow can read and
    change everything on the server. See docs/operations/run-identity.md."""


class SecretVersions(Values):
    auth: str = ""
    """Version of auth.secret. Without run identity, a new text restarts the workers. Job pods need
    no restart, because each run starts in a new pod."""
    configuration: str = ""
    """Version of the Secrets in configuration.secrets. A new text runs the configuration Job again.
    Without it, the configuration CronJob applies a changed Secret at its next scheduled time."""


class Worker(Extras):
    replicas: Count = 1
    """Number of worker pods that poll the pool. Each flow run is started by one of them."""
    work_queues: list[NonEmpty] = []
    """Work queues of the pool that this worker serves. An empty list, the default, means all of
    them."""
    query_seconds: Annotated[float, Field(ge=1)] = 5
    """Seconds between two polls of the work pool. At least 1. The worker also polls when the API
    reports that a run is scheduled or has ended. Runs that are late or become due later, and runs
    whose event was lost, may wait for the next poll at this interval. Each poll is a request to
    the API."""
    prefetch_seconds: Annotated[float, Field(ge=0)] = 10
    """Seconds before its scheduled time at which a run may be picked up."""
    limit: Positive | None = None
    """Number of flow runs that one worker pod submits at the same time; null, the default, means no
    limit. A slot is released as soon as the run's Job exists, so this does not limit the number of
    job pods: set the pool's concurrency_limit in platform.yaml for that."""
    max_starts: Positive = 5
    """How many times in all a flow run is started if its pods are evicted or drained. After that
    the run becomes Crashed. A run whose pod is evicted because it exceeded a limit of its own, such
    as `jobs.tmpSizeLimit`, is not started again."""
    work_pool_timeout_seconds: Positive = 600
    """Seconds that a starting worker pod waits for its work pool to exist. After that it fails with
    the reason in its log, and Kubernetes starts it again."""
    log_format: Literal["text", "json"] = "text"
    """Format of the log of the worker and its observer: text, or json (one JSON object per line). A
    few lines that the worker prints about itself are always text."""
    extra_env: list[EnvVar] = []
    """Environment variables added to the worker, as a list of Kubernetes EnvVars. The worker copies
    Prefect's settings among them into each Job in plain text, so a PREFECT_ variable with
    `valueFrom` is refused."""
    service_account_annotations: dict[str, str] = {}
    """Annotations added to the worker's ServiceAccount, such as a cloud's role."""
    resources: Resources = resources("100m", "256Mi", memory_limit="512Mi")
    """Resources of each worker pod."""


class Results(Values):
    storage_block: Annotated[str, StringConstraints(pattern=r"^([a-z0-9-]+/[a-z0-9-]+)?$")] = ""
    """Block that stores the results of tasks and flows, as TYPE/NAME of a block in platform.yaml.
    With it, results outlive their pod and other pods can read them. The block holds no key:
    credentials come from `jobs.env` or from a cloud's role. If empty, results are lost with their
    pod and nothing is cached between runs; see docs/operations/results.md."""
    write_seconds: Positive = 120
    """Seconds for which a failed write of a result is retried before the run fails."""


class Jobs(Scheduling):
    namespace: Annotated[
        str, StringConstraints(pattern=r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)?$")
    ] = ""
    """Namespace of the job pods. If empty, it is flows-POOL. Each pool needs a namespace of its
    own, because quotas, limits and NetworkPolicies apply to a whole namespace."""
    create_namespace: bool = False
    """Create the namespace, with the Pod Security Standard "restricted" enforced, and keep it when
    the release is uninstalled. If false, the default, the namespace has to exist. Either way, runs
    need the Secret of `auth` in it."""
    image: PlatformImage = PlatformImage(repository="flows")
    """Image of the flows: the target `flows` of this repository's Dockerfile."""
    allowed_images: list[Annotated[str, StringConstraints(pattern=r"^[^/@ ]+/[^ ]*$")]] = []
    """Images that runs may use in addition to `image`. An entry is a repository, such as
    registry.example.org/team/flows, a reference with tag or digest, or a part of a path that ends
    in / and allows all below it. Any tag and digest of the repository in `image` is allowed."""
    command: NonEmpty = "python -m prefect_platform.flow_run"
    """Command of the job pods. The default does the same as `prefect flow-run execute` with less
    processor time, and needs the package prefect_platform in the image, as the image `flows` has
    it. Set `prefect flow-run execute` for images without it. A deployment can override it through
    the job variable `command`; see docs/operations/pools.md."""
    admission_policy: bool = True
    """Create a ValidatingAdmissionPolicy with which Kubernetes refuses Jobs in the namespace that
    the base job template could not produce. It is a cluster-wide object. Set it to false if you may
    not create such objects; then only the worker keeps to the template."""
    service_account_name: NonEmpty = "flow-run"
    """Name of the job pods' ServiceAccount. The chart creates it in their namespace. It has no
    rights, and its token is not mounted."""
    service_account_annotations: dict[str, str] = {}
    """Annotations added to the job pods' ServiceAccount, such as a cloud's role."""
    env: list[EnvVar] = []
    """Environment variables of each run, as a list of Kubernetes EnvVars. A deployment can override
    a variable by name through the job variable `env`. A Secret in `valueFrom` stays a reference in
    the Job."""
    results: Results = Results()
    """Where results are stored. A deployment can override it through the job variable `env`."""
    log_format: Literal["text", "json"] = "text"
    """Format of the job pods' logs: text, or json (one JSON object per line). A deployment can
    override it through the job variable `env`. The logs that a run sends to the API are the same
    with both."""
    labels: dict[str, str] = {}
    """Labels added to each Job and its pod, in addition to Prefect's labels."""
    resources: Resources = resources("200m", "256Mi", memory_limit="1Gi")
    """Resources of each job pod. A deployment can override them through job variables. Because of
    the requests, the scheduler queues a burst of runs instead of starving the node."""
    maximum: Amounts = Amounts()
    """The largest `cpu` and `memory` that one container may have, whatever its deployment says. By
    default there is no maximum."""
    quota: dict[str, str] = {
        "pods": "200",
        "services.loadbalancers": "0",
        "services.nodeports": "0",
    }
    """Total resources that all job pods of the pool may use, as the hard limits of a ResourceQuota.
    A run that exceeds the quota stays Pending until other runs end. Set a key to null to remove it.
    With `priorityClassName`, a second ResourceQuota refuses pods of every other priority class in
    the namespace, so that only runs use up the quota."""
    tmp_size_limit: Quantity = "1Gi"
    """Size of /tmp, the only directory that a job pod can write to, such as 1Gi. A pod that exceeds
    it is evicted."""
    extra_volumes: list[dict[str, Any]] = []
    """Volumes added to the job pods, such as your certificate authority, as a list of Kubernetes
    Volumes."""
    extra_volume_mounts: list[dict[str, Any]] = []
    """Volume mounts added to the run's container, as a list of Kubernetes VolumeMounts."""
    heartbeat_seconds: Annotated[int, Field(ge=30)] = 30
    """Seconds between two heartbeats of a run. At least 30. `reaper.silenceSeconds` has to be at
    least three times as long."""
    active_deadline_seconds: Positive = 86400
    """Seconds after which a run's pod is killed, whatever it does. It also ends a pod that cannot
    be scheduled or whose image cannot be pulled. The default is one day. A deployment can override
    it through the job variable `active_deadline_seconds`."""
    template: dict[str, Any] = {}
    """Changes to the base job template, with the keys `job_configuration` and `variables`. Maps are
    merged, lists are replaced, and null removes a key. Use it for what has no value here, such as
    an additional job variable and the field that it fills. Fields that isolate runs and restrict
    their pods cannot be changed."""


class Configuration(Scheduling):
    platform: str = ""
    """Content of a platform.yaml, given by `--set-file`: work pools, blocks, automations and other
    resources of the server. A Job applies it after each install and upgrade, together with the
    deployments in the image of the flows. If empty, this release configures nothing, and its pools
    have to be created elsewhere. Only one release may configure a server; a second one is refused.
    See docs/operations/configuration.md."""
    secrets: list[NonEmpty] = []
    """Names of the Secrets that platform.yaml refers to, in the release's namespace. They are
    mounted into the configuration's pod, not read through the Kubernetes API."""
    prune: bool = True
    """Delete resources that an earlier platform.yaml or an earlier image of the flows declared and
    the current one does not. Resources that were never declared are not touched."""
    schedule: NonEmpty = "*/5 * * * *"
    """When the configuration is applied again, as a cron expression. It brings rotated Secrets to
    the server and corrects drift. The default is every five minutes."""
    timeout_seconds: Positive = 600
    """Seconds that an attempt waits for the API. Kubernetes ends a Job of the CronJob 720 seconds
    after that, and the Job of an install, with all its attempts, 600 seconds later."""
    resources: Resources = resources("100m", "256Mi", memory_limit="512Mi")
    """Resources of the configuration's pod."""


class PriorityClass(Values):
    create: bool = False
    """Create the PriorityClass. It is a cluster-wide object, so only one release may create it."""
    name: NonEmpty = "prefect-flow-run"
    """Name of the PriorityClass. Job pods use it if `jobs.priorityClassName` has the same value."""
    value: Annotated[int, Field(ge=-2147483648, le=1000000000)] = -100
    """Priority of the pods. Pods without a PriorityClass have 0. If the value is lower than the
    priority of the API's pods, an API pod that returns to a full node may preempt running job pods,
    and their flow runs crash or are retried. Kubernetes does not let you change the value of an
    existing PriorityClass: choose another name as well."""
    preemption_policy: Literal["Never", "PreemptLowerPriority"] = "Never"
    """Whether job pods preempt other pods: Never (they wait until there is room) or
    PreemptLowerPriority (they preempt pods with a lower priority)."""


class Test(Values):
    timeout_seconds: Positive = 240
    """Seconds that the flow run of a pool may take from its creation to its end. The first run on a
    node also waits for the image of the flows to be pulled. The timeout of `helm test --timeout`, 5
    minutes by default, has to be longer."""


class Reaper(Scheduling):
    enabled: bool = True
    """Run the reaper. Turn it off if releases in different clusters serve the same work pool from
    namespaces with the same name: the reaper of one cluster cannot see the Jobs of the other, and
    would end its runs."""
    schedule: NonEmpty = "*/2 * * * *"
    """When a pass starts, as a cron expression. The default is every two minutes."""
    dry_run: bool = False
    """Log what the reaper would do, and change nothing."""
    grace_seconds: Count = 60
    """Seconds that a flow run whose Job is gone or has ended is left alone before the reaper ends
    it. Choose more than job pods take to shut down. A Job also has to be this old before the reaper
    deletes it because its flow run does not exist, and a flow run has to be Crashed or Cancelled
    for this long before the reaper deletes a Job whose container has not started."""
    submission_seconds: Annotated[int, Field(ge=120)] = 300
    """Seconds that a flow run may be in submission without a Job before the reaper gives it to a
    worker again, because the worker that took it was probably stopped. Choose more than your
    workers take to submit the largest number of flow runs that become due at the same time."""
    unstartable_seconds: Positive = 1800
    """Seconds that a flow run may wait for something that has to be corrected first, before the
    reaper ends it: an image, a Secret or a ConfigMap that does not exist, or a pod that Kubernetes
    refuses. The reaper never ends a flow run that waits for room in a quota or on a node; only
    `jobs.activeDeadlineSeconds` does."""
    silence_seconds: Positive = 600
    """Seconds without a heartbeat after which a flow run counts as silent. The reaper ends a silent
    run only if its container is gone, too. Otherwise it names the run, and the automation `zombie`
    notifies you. Choose more than an outage of the API or of its broker takes, and at least three
    times `jobs.heartbeatSeconds`."""
    lost_node_seconds: Positive = 600
    """Seconds for which a node must not have been ready before the reaper considers the containers
    on it gone. Choose more than your nodes take to restart."""
    end_silent_seconds: Positive | None = None
    """Seconds without a heartbeat after which the reaper ends a running flow run even if nothing
    shows that its container has ended. By default it never does: such a run may be computing, and
    `jobs.activeDeadlineSeconds` ends one that hangs. Choose more than the longest computation that
    keeps Python's other threads from running. Leave it unset if any of your runs has its heartbeats
    turned off."""
    hook_seconds: Count = 3600
    """Seconds for which a container may still run after its flow run became Crashed or Cancelled,
    for example in the hooks `on_crashed` and `on_cancellation`. Then the reaper deletes its Job."""
    resources: Resources = resources("100m", "192Mi", memory_limit="512Mi")
    """Resources of the reaper's pod."""


class NetworkPolicies(Values):
    enabled: bool = True
    """Create NetworkPolicies for the workers, the job pods and the other pods of this release. They
    allow DNS in kube-system and the egress that is listed below. All other traffic is denied, and
    nothing may connect to these pods. They have no effect if the cluster's network does not enforce
    NetworkPolicies; see docs/operations/network-policies.md. If you set it to false, also remove
    the NetworkPolicy `default-deny` that the environment's namespaces.yaml creates in the release's
    namespace: otherwise it blocks all traffic of the workers and of the other pods there. Job pods
    are then not restricted at all."""
    api: EgressRule = EgressRule(
        to=[
            Peer(
                namespace_selector={"matchLabels": {"kubernetes.io/metadata.name": "prefect"}},
                pod_selector={
                    "matchLabels": {
                        "app.kubernetes.io/name": "prefect-server",
                        "app.kubernetes.io/component": "api",
                    }
                },
            )
        ],
        ports=[PolicyPort(port=4200)],
    )
    """Where the server behind `api.url` is, as a NetworkPolicyEgressRule. The default is the API's
    pods in the namespace prefect."""
    kubernetes_api: EgressRule = EgressRule(ports=[PolicyPort(port=443), PolicyPort(port=6443)])
    """Where the Kubernetes API is. Only the workers and the reaper may connect to it. Its addresses
    differ between clusters, so the default allows two ports of every address; set `to` with an
    ipBlock if you know the addresses."""
    jobs_egress: list[EgressRule] = []
    """What job pods may connect to besides DNS and the server, such as your object store and your
    warehouse, as a list of NetworkPolicyEgressRules. By default nothing."""


class PoolDefaults(Values):
    """Values that each pool has, and that a pool may override."""

    worker: Worker = Worker()
    """The worker of each pool, which starts a Job for each flow run."""
    jobs: Jobs = Jobs()
    """The Jobs of the flow runs. These values are the only source of the pools' base job templates.
    A deployment can override single variables of the template through job_variables; the settings
    that isolate runs and restrict their pods are fixed."""
    network_policies: NetworkPolicies = NetworkPolicies()
    """The allowed network traffic of the workers, the job pods and the other pods."""


Pool = overrides(PoolDefaults)


class PrefectWorker(PoolDefaults, Chart):
    """Values of the chart prefect-worker. They name Secrets and never contain them."""

    profile: Literal["development", "production"] = "development"
    """Which values the chart accepts: development (every valid combination) or production (it
    refuses the default tag of `image` and `jobs.image`)."""
    global_: Annotated[Global, Field(alias="global")] = Global()
    """Values that this chart shares with the other charts of a parent chart."""
    image: PlatformImage = PlatformImage(repository="platform")
    """Image of the workers, the reaper and `helm test`: the target `platform` of this repository's
    Dockerfile."""
    api: Api = Api()
    """The API of the server."""
    auth: Auth = Auth()
    """Authentication at the API."""
    secret_versions: SecretVersions = SecretVersions()
    """Versions of the Secrets. A pod reads a Secret only when it starts, so a changed Secret needs
    new pods. Set a version to any new text, such as Terraform's version number, to restart the pods
    that read the Secret. If empty, a changed Secret restarts nothing; see
    docs/operations/rotation.md."""
    pools: Annotated[
        dict[str, Pool],  # type: ignore[valid-type]  # made of PoolDefaults when this is imported
        Field(
            json_schema_extra={"propertyNames": {"pattern": "^[a-z0-9]([a-z0-9-]{0,55}[a-z0-9])?$"}}
        ),
    ] = {"default": Pool()}
    """Work pools by name. Each has a worker, and a namespace of its own for its job pods. A pool
    may override any key of `worker`, `jobs` and `networkPolicies`, whose values apply to all pools.
    Set `default: null` to serve only the other pools. The base job templates are rendered into a
    ConfigMap, from which the pools are created: by `configuration`, or by hand as the notes of the
    chart explain. The workers wait until their pool exists. See docs/operations/pools.md."""
    configuration: Configuration = Configuration()
    """Configuration of the server as code: a Job and a CronJob that apply platform.yaml."""
    retention: Retention = Retention()
    """How long everything is kept. A period is a whole number with a unit: m (minutes), h (hours)
    or d (days). Both charts read these periods from k8s/environments/NAME/retention.yaml. This
    chart uses `jobs`, and refuses periods that are shorter than a run may take; see
    docs/operations/retention.md."""
    priority_class: PriorityClass = PriorityClass()
    """A PriorityClass with which job pods yield to the platform's pods when a node is full."""
    test: Test = Test()
    """`helm test`, which runs a flow in every pool."""
    reaper: Reaper = Reaper()
    """The reaper, a CronJob that reconciles flow runs with their Jobs. It ends flow runs whose Job
    is gone or has ended without them. It deletes Jobs whose flow run was deleted, crashed or was
    cancelled, and Jobs that succeeded longer ago than `retention.jobs.succeeded`. See
    docs/operations/housekeeping.md."""
    extra_objects: list[dict[str, Any]] = []
    """Kubernetes objects to install with the chart. Template expressions in them are rendered."""
