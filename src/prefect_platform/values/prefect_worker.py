"""Values of the chart prefect-worker."""

from typing import Annotated, Any

from pydantic import Field, StringConstraints

from prefect_platform.values.kubernetes_types import (
    Amounts,
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
    Values,
    resources,
)


class Api(Values):
    url: Annotated[str, StringConstraints(pattern=r"^https?://.*/api$")] = (
        "http://prefect-server.prefect.svc.cluster.local:4200/api"
    )
    """The API of prefect-server, as the worker and the job pods reach it."""


class Auth(Values):
    existing_secret: str = "prefect-auth"  # noqa: S105  # its name
    """Secret name, in both namespaces."""
    key: NonEmpty = "auth-string"
    """Its key; the value reads "user:password"."""


class WorkPool(Values):
    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,55}[a-z0-9])?$")] = (
        "default"
    )
    """The pool that this worker serves. The configuration creates it from the ConfigMap
    prefect-worker-base-job-template; the worker waits for it."""
    concurrency_limit: Annotated[int, Field(ge=1)] | None = None
    """Runs of the pool that may be submitted or running at once; null: no limit. Where job pods
    share nodes with the API, choose as many as fit beside it: a node full of job pods leaves no
    room for an API pod that has to come back, and they wait for it."""


class Worker(Extras):
    replicas: Count = 1
    """Pods that poll the pool; each flow run is started by one of them."""
    work_queues: list[NonEmpty] = []
    """The pool's queues that this worker serves; empty: all of them."""
    query_seconds: Annotated[float, Field(ge=1)] = 5
    """Seconds between two polls: the most that a due run waits."""
    prefetch_seconds: Annotated[float, Field(ge=0)] = 10
    """Seconds that a run may be taken before it is due."""
    work_pool_timeout_seconds: Positive = 600
    """Seconds that a starting pod waits for the work pool before it says why and tries again."""
    extra_env: list[EnvVar] = []
    """Further environment variables: Kubernetes EnvVar items. Prefect's settings among them travel
    on to the job pods, in plain text; so a PREFECT_ name with valueFrom is refused."""
    resources: Resources = resources("100m", "256Mi", memory_limit="512Mi")
    """Of the worker's pod."""


class Jobs(Scheduling):
    namespace: Annotated[
        str, StringConstraints(pattern=r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)?$")
    ] = ""
    """Empty: flows-<pool>. The namespace is not made by this chart."""
    image: Image = Image(repository="flows")
    """The image of the flows: the target `flows`."""
    service_account_name: NonEmpty = "flow-run"
    """Made by this chart in the namespace of the jobs, without a token."""
    env: list[EnvVar] = []
    """Environment variables of each run: Kubernetes EnvVar items. Deployments can override them by
    name. Secrets by valueFrom stay references in the Job."""
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
    active_deadline_seconds: Positive = 86400
    """Seconds after which a run's pod is killed, whatever it does: also one that cannot be
    scheduled or pulled ends by it."""
    finished_job_ttl_seconds: Count = 3600
    """Seconds that a finished Job and its logs stay in the cluster."""


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
    """Where the Kubernetes API is, for the worker alone. Its addresses differ from cluster to
    cluster, so the default names ports only: give `to` with an ipBlock where you know it."""
    jobs_egress: list[EgressRule] = []
    """What job pods reach besides DNS and the server: your object store, your warehouse."""


class PrefectWorker(Values):
    """Values of prefect-worker. Secrets are named here, never given."""

    global_: Annotated[Global, Field(alias="global")] = Global()
    """For this chart and those beside it in a parent chart."""
    image: Image = Image(repository="platform")
    """The image of the worker: the target `platform` of this repository's Dockerfile."""
    api: Api = Api()
    """Where the server is."""
    auth: Auth = Auth()
    """The API's basic authentication. The Secret has to exist in both namespaces, the release's
    and the one of the job pods: a pod reads only Secrets beside it."""
    work_pool: WorkPool = WorkPool()
    """Where runs come from."""
    worker: Worker = Worker()
    """The process that starts a Job for each run."""
    jobs: Jobs = Jobs()
    """What becomes of a flow run: one Job. This is the one source of the pool's base job template.
    Deployments override single variables of it by job_variables; what keeps the pods apart and
    harmless is fixed."""
    network_policies: NetworkPolicies = NetworkPolicies()
    """Who may speak with whom."""
    extra_objects: list[dict[str, Any]] = []
    """Further objects to install with the chart; templates in their strings are rendered."""
