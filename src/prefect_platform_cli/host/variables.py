"""The variables that choose one of a few values, and the refusal of every other value."""

from prefect_platform.errors import PlatformError

CHOICES = {
    "CLUSTER": ("kind", "current"),
    "ENGINE": ("existing", "private"),
    "NODE_IMAGE": ("registry", "build"),
    "BUILDER": ("docker", "buildah"),
    "CLIENTS": ("path", "build"),
    "UNCOMMITTED": ("accept",),
    "UNENFORCED_POLICIES": ("accept",),
}


def refuse_other(variable: str, value: str | None) -> None:
    """Raise PlatformError unless `value` is one of the variable's, or None if it is not given."""
    allowed = CHOICES[variable]
    if value not in (None, *allowed):
        raise PlatformError(
            f"{variable}={value} is not valid: it must be {' or '.join(allowed)}",
            next_step=f"set {variable} to {' or '.join(allowed)}, or leave it out",
        )
