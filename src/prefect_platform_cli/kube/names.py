"""Names in a cluster: namespaces, releases, objects and labels of the platform.

They are those of `k8s/environments/local` and of the charts' defaults.
"""

POOL = "default"

SERVER_NAMESPACE = "prefect"
WORKER_NAMESPACE = "prefect-workers"
JOB_NAMESPACE = f"flows-{POOL}"
DATA_NAMESPACE = "data"
NAMESPACES = (SERVER_NAMESPACE, WORKER_NAMESPACE, JOB_NAMESPACE, DATA_NAMESPACE)

SERVER_RELEASE = "prefect-server"
"""Also the name of the API's Service."""
WORKER_RELEASE = "prefect-worker"
BASE_JOB_TEMPLATES = f"{WORKER_RELEASE}-base-job-template"
"""The ConfigMap with a base job template for each work pool."""

IMAGE_BASES = "prefect-image-bases"
"""The ConfigMap that says on which base each deployed image was built."""

AUTH_SECRET = "prefect-auth"  # noqa: S105 - a name
DATABASE_SECRET = "prefect-database"  # noqa: S105 - a name
ENCRYPTION_SECRET = "prefect-encryption"  # noqa: S105 - a name
REDIS_SECRET = "prefect-redis"  # noqa: S105 - a name
OBJECT_STORE, WAREHOUSE, RESULT_LOCKS = "object-store", "warehouse", "result-locks"
"""Services of the local data namespace, and the Secrets of the same names."""

PART_OF = {"app.kubernetes.io/part-of": "prefect-platform"}


def selector(**labels: str) -> str:
    """Return a selector of app.kubernetes.io labels; `part_of` becomes part-of."""
    return ",".join(
        f"app.kubernetes.io/{name.replace('_', '-')}={value}" for name, value in labels.items()
    )
