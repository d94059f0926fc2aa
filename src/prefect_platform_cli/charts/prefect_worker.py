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
    Image,
    Peer,
    PolicyPort,
    Positive,
    Quantity,
    Resources,
    Scheduling,
    resources,
)
from prefect_platform_cli.charts.overrides import overrides


class Api(Values):
    url: Annotated[str, StringConstraints(pattern=r"^https?://.*/api$")] = (
        "http://prefect-server.prefect.svc.cluster.local:4200/api"
    )
    """The API of prefect-server, as the worker and the job pods reach it."""


class Auth(Values):
    existing_secret: str = "prefect-auth"  # noqa: S105  # its name
    """Secret name, in all of these namespaces."""
    key: NonEmpty = "auth-string"
    """Its key; the value reads "user:password"."""


class SecretVersions(Values):
    auth: str = ""
    """Of auth.existingSecret: the workers. Job pods are new for each run."""
    configuration: str = ""
    """Of those in configuration.secrets: the configuration's Job runs again. Without it, its
    CronJob brings a new value within its period."""


class Worker(Extras):
    replicas: Count = 1
    """Pods that poll the pool; each flow run is started by one of them."""
    work_queues: list[NonEmpty] = []
    """The pool's queues that this worker serves; empty: all of them."""
    query_seconds: Annotated[float, Field(ge=1)] = 5
    """Seconds between two polls: the most that a due run waits."""
    prefetch_seconds: Annotated[float, Field(ge=0)] = 10
    """Seconds that a run may be taken before it is due."""
    limit: Positive | None = None
    """Runs that one worker pod submits at once; null: no limit. Its place is free again when the
    run's Job exists, so this does not bound how many pods run: the pool's concurrency_limit in
    platform.yaml does."""
    max_starts: Positive = 5
    """How often a run is started whose pods are evicted or drained; then it ends Crashed. One whose
    pod is evicted for a limit of its own, such as jobs.tmpSizeLimit, is not started again."""
    work_pool_timeout_seconds: Positive = 600
    """Seconds that a starting pod waits for the work pool before it says why and tries again."""
    log_format: Literal["text", "json"] = "text"
    """json: one JSON object a line in the worker's log, that of its observer too. The few lines
    that the worker prints about itself stay text."""
    extra_env: list[EnvVar] = []
    """Further environment variables: Kubernetes EnvVar items. Prefect's settings among them travel
    on to the job pods, in plain text; so a PREFECT_ name with valueFrom is refused."""
    service_account_annotations: dict[str, str] = {}
    """Annotations of the worker's ServiceAccount, such as the role of a cloud."""
    resources: Resources = resources("100m", "256Mi", memory_limit="512Mi")
    """Of the worker's pod."""


class Results(Values):
    storage_block: Annotated[str, StringConstraints(pattern=r"^([a-z0-9-]+/[a-z0-9-]+)?$")] = ""
    """The block TYPE/NAME of platform.yaml that keeps what tasks and flows return, so that it
    outlives the pod and another pod finds it. It holds no key: that comes from `env` or a role.
    Empty: results are lost with their pod, and nothing is cached from one run to the next."""
    write_seconds: Positive = 120
    """Seconds for which a result that the storage does not take is tried again, before its run
    fails by it."""


class Jobs(Scheduling):
    namespace: Annotated[
        str, StringConstraints(pattern=r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)?$")
    ] = ""
    """Empty: flows-<pool>. Each pool has its own, because quota, limits and NetworkPolicy hold for
    a whole namespace."""
    create_namespace: bool = False
    """Make the namespace, with the Pod Security Standard "restricted" enforced, and keep it when
    the release is uninstalled. Runs need the Secret of `auth` in it."""
    image: Image = Image(repository="flows")
    """The image of the flows: the target `flows`."""
    service_account_name: NonEmpty = "flow-run"
    """Made by this chart in the namespace of the jobs, without a token."""
    service_account_annotations: dict[str, str] = {}
    """Annotations of the job pods' ServiceAccount, such as the role of a cloud."""
    env: list[EnvVar] = []
    """Environment variables of each run: Kubernetes EnvVar items. Deployments can override them by
    name. Secrets by valueFrom stay references in the Job."""
    results: Results = Results()
    """Where results go. Deployments can override it by `env`."""
    log_format: Literal["text", "json"] = "text"
    """json: one JSON object a line in the job pods' logs; a deployment can override it by `env`.
    What a run sends to the API is the same with both."""
    labels: dict[str, str] = {}
    """Labels of each Job and pod, besides those of Prefect."""
    resources: Resources = resources("200m", "256Mi", memory_limit="1Gi")
    """Requests let the scheduler queue a burst instead of starving the node."""
    maximum: Amounts = Amounts()
    """The most that one container may ask for, whatever its deployment says: cpu, memory."""
    quota: dict[str, str] = {
        "pods": "200",
        "services.loadbalancers": "0",
        "services.nodeports": "0",
    }
    """What all job pods may take together: the hard limits of a ResourceQuota. Runs beyond it stay
    Pending until others end. A key is removed by null."""
    tmp_size_limit: Quantity = "1Gi"
    """Size of the pods' only writable directory, /tmp."""
    extra_volumes: list[dict[str, Any]] = []
    """Further volumes of the pods, such as your certificate authority: Kubernetes Volume items."""
    extra_volume_mounts: list[dict[str, Any]] = []
    """Where the run's container mounts them: Kubernetes VolumeMount items."""
    heartbeat_seconds: Annotated[int, Field(ge=30)] = 30
    """Seconds between two heartbeats of a run. The automation `zombie` of platform.yaml waits at
    least three times as long before it takes a run for dead."""
    active_deadline_seconds: Positive = 86400
    """Seconds after which a run's pod is killed, whatever it does: also one that cannot be
    scheduled or pulled ends by it."""
    template: dict[str, Any] = {}
    """Laid over the base job template, {job_configuration, variables}: maps merge, lists replace,
    null removes. For what has no value here, such as one more variable and the field that it
    fills; what keeps runs apart and harmless is refused."""


class Configuration(Scheduling):
    platform: str = ""
    """Content of a platform.yaml, given by `--set-file`: pools, blocks, automations and what else
    Prefect is told. A Job applies it after each install and upgrade, with the deployments of the
    image of the flows. Empty: this release configures nothing, and its pools are made elsewhere.
    One release a server gives it; another one is refused."""
    secrets: list[NonEmpty] = []
    """Secrets in the release's namespace that platform.yaml refers to; they are mounted, not read
    through the Kubernetes API."""
    prune: bool = True
    """Delete what an earlier platform.yaml or an image of the flows declared and this one does
    not. What nobody declared is never touched."""
    schedule: NonEmpty = "*/5 * * * *"
    """When a CronJob applies it again, so that rotated Secrets arrive and drift is put right."""
    timeout_seconds: Positive = 600
    """Seconds that one try may take, its wait for the API included."""
    resources: Resources = resources("100m", "256Mi", memory_limit="512Mi")
    """Of the pod."""


class PriorityClass(Values):
    create: bool = False
    """Make it. The class is the cluster's, not a namespace's: one release makes it."""
    name: NonEmpty = "prefect-flow-run"
    """Its name; job pods use it where jobs.priorityClassName says the same."""
    value: Annotated[int, Field(ge=-2147483648, le=1000000000)] = -100
    """Pods without a class have 0. With less than the API's, an API pod that comes back to a full
    node may preempt job pods that run: their flow runs crash or are retried. Kubernetes refuses to
    change it: take another name."""
    preemption_policy: Literal["Never", "PreemptLowerPriority"] = "Never"
    """Never: job pods wait for room. PreemptLowerPriority: they take it from pods below them."""


class Test(Values):
    timeout_seconds: Positive = 240
    """Seconds that the flow run of a pool may take from its creation to its end; the first one on
    a node waits for the image of the flows. `helm test --timeout`, 5m by default, has to be
    longer."""


class Reaper(Scheduling):
    enabled: bool = True
    """Switch it off where releases in different clusters serve the same work pool from namespaces
    of one name: each would miss the Jobs of the others."""
    schedule: NonEmpty = "*/2 * * * *"
    """When a pass starts, in the form of cron."""
    dry_run: bool = False
    """Say in the log what would be done, and change nothing."""
    grace_seconds: Count = 60
    """Seconds that a run stays without its Job, or with one that has ended, before it is ended:
    more than job pods have to shut down. Also how old a Job is before it may be without a run."""
    submission_seconds: Positive = 900
    """Seconds that a run may be submitted without a Job. A worker that waits for the API takes
    minutes."""
    silence_seconds: Positive = 600
    """Seconds that a run may run without a heartbeat before the log names it: three times
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY, and its start. It is left alone."""
    resources: Resources = resources("100m", "192Mi", memory_limit="512Mi")
    """Of the reaper's pod."""


class NetworkPolicies(Values):
    enabled: bool = True
    """Nothing reaches the worker or a job pod, and they reach nothing, unless it is named here.
    DNS in kube-system is always allowed. Without effect where the cluster's network does not
    enforce policies."""
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
    """Where the server behind `api.url` is, as a NetworkPolicyEgressRule."""
    kubernetes_api: EgressRule = EgressRule(ports=[PolicyPort(port=443), PolicyPort(port=6443)])
    """Where the Kubernetes API is, for worker and reaper alone. Its addresses differ from cluster
    to cluster, so the default names ports only: give `to` with an ipBlock where you know it."""
    jobs_egress: list[EgressRule] = []
    """What job pods reach besides DNS and the server: your object store, your warehouse."""


class PoolDefaults(Values):
    """What each pool has, and may have otherwise than the others."""

    worker: Worker = Worker()
    """The process that starts a Job for each run."""
    jobs: Jobs = Jobs()
    """What becomes of a flow run: one Job. This is the one source of the pool's base job template.
    Deployments override single variables of it by job_variables; what keeps the pods apart and
    harmless is fixed."""
    network_policies: NetworkPolicies = NetworkPolicies()
    """Who may speak with whom."""


Pool = overrides(PoolDefaults)


class PrefectWorker(PoolDefaults, Chart):
    """Values of prefect-worker. Secrets are named here, never given."""

    global_: Annotated[Global, Field(alias="global")] = Global()
    """For this chart and those beside it in a parent chart."""
    image: Image = Image(repository="platform")
    """The image of the worker: the target `platform` of this repository's Dockerfile."""
    api: Api = Api()
    """Where the server is."""
    auth: Auth = Auth()
    """The API's basic authentication. The Secret has to exist in the release's namespace and in
    those of the job pods: a pod reads only Secrets beside it."""
    secret_versions: SecretVersions = SecretVersions()
    """Pods read a Secret as they start. Another text here, such as Terraform's number, makes new
    ones of all that have read it; see docs/operations/rotation.md."""
    pools: Annotated[
        dict[str, Pool],  # type: ignore[valid-type]  # made of PoolDefaults when this is imported
        Field(
            json_schema_extra={"propertyNames": {"pattern": "^[a-z0-9]([a-z0-9-]{0,55}[a-z0-9])?$"}}
        ),
    ] = {"default": Pool()}
    """The work pools that are served, each by a worker with a namespace of its own for its job
    pods. By name, what a pool has otherwise than the rest: any key of `worker`, `jobs` and
    `networkPolicies`. `default: null` serves the others alone. Each is created from the
    ConfigMap with the base job templates, by `configuration` or as the chart's notes say; its
    workers wait for it."""
    configuration: Configuration = Configuration()
    """What the server is told: the platform's configuration as code."""
    retention: Retention = Retention()
    """How long everything is kept: k8s/environments/NAME/retention.yaml, which both charts take.
    This one looks at `jobs`, and at what a run that takes as long as it may would outlive."""
    priority_class: PriorityClass = PriorityClass()
    """A PriorityClass by which job pods give way to the platform."""
    test: Test = Test()
    """`helm test`, which runs a flow in every pool."""
    reaper: Reaper = Reaper()
    """A CronJob that ends flow runs whose Job is gone or has ended without them, and deletes Jobs
    whose flow run was deleted or that succeeded a while ago."""
    extra_objects: list[dict[str, Any]] = []
    """Further objects to install with the chart; templates in their strings are rendered."""
