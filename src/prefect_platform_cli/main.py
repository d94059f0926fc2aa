"""The command line: parse the arguments, call the package, print the result.

Prefect and the Kubernetes client take seconds to import. Each command imports what it needs when it
runs, so that help does not wait for them.
"""

import datetime as dt
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from prefect_platform.console import err, out, step
from prefect_platform.errors import PlatformError
from prefect_platform_cli.host.paths import REPOSITORY, cache_directory
from prefect_platform_cli.host.variables import refuse_other

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

    from prefect_platform.configuration.platform_file import Files
    from prefect_platform_cli.cluster.provider import ClusterProvider
    from prefect_platform_cli.deploy.context import FromCluster
    from prefect_platform_cli.images.build import Image
    from prefect_platform_cli.images.push import Pushed
    from prefect_platform_cli.images.remote import Registry
    from prefect_platform_cli.images.signature import Signer
    from prefect_platform_cli.kube.kubectl import Kubectl

_DAY = "2013-01-01"  # of the first run
_INTERRUPTED = 130  # the exit code that a shell reports after Ctrl-C
_DIFFERS = 2  # the exit code of `terraform plan -detailed-exitcode` when there are changes
_IMAGES = ("platform", "flows", "postgres", "redis", "seaweedfs")
_PUSHED = ("platform", "flows", "postgres", "redis")  # only the local environment has SeaweedFS

app = typer.Typer(
    help="Run Prefect on Kubernetes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

doctor = typer.Typer(help="Check whether the platform works as declared.", no_args_is_help=True)
app.add_typer(doctor, name="doctor")


@dataclass(frozen=True)
class _Options:
    cluster: str
    context: str | None
    name: str
    nodes: int | None
    engine: str | None
    node_image: str | None
    builder: str | None

    def provider(self) -> "ClusterProvider":
        if self.cluster == "kind":
            from prefect_platform_cli.cluster.kind import KindProvider

            return KindProvider(
                self.name,
                nodes=self.nodes,
                engine=self.engine,
                node_image=self.node_image,
                docker_host=os.environ.get("DOCKER_HOST"),
            )
        from prefect_platform_cli.cluster.current import CurrentProvider

        return CurrentProvider(self.name, self.context)

    def refuse_ignored(self) -> None:
        """Refuse what the provider would ignore, so that nothing is deployed by mistake."""
        of_kind = {"NODES": self.nodes, "ENGINE": self.engine, "NODE_IMAGE": self.node_image}
        ignored = {"CONTEXT": self.context} if self.cluster == "kind" else of_kind
        for variable, value in ignored.items():
            if value is not None:
                raise PlatformError(
                    f"{variable}={value} has no effect with CLUSTER={self.cluster}",
                    next_step=f"leave {variable} out, or choose the other provider: "
                    "make deploy-cluster CLUSTER=kind, or CLUSTER=current CONTEXT=NAME",
                )

    def images(self, *names: str) -> "list[Image]":
        """Build the images `names`, by default those of the local environment."""
        from prefect_platform_cli.images.build import build

        return build(names or _IMAGES, builder=self.builder)

    def push(
        self,
        registry: "Registry",
        names: Sequence[str] = _IMAGES,
        signer: "Signer | None" = None,
    ) -> "list[Pushed]":
        from prefect_platform_cli.images.catalogue import recipes
        from prefect_platform_cli.images.push import push

        folder = cache_directory() / "images"
        return push(recipes(names), registry, folder, builder=self.builder, signer=signer)

    def kubectl(self) -> "Kubectl":
        from prefect_platform_cli.kube.kubectl import Kubectl

        provider = self.provider()
        if not provider.status().running:
            raise PlatformError("there is no running cluster", next_step="make deploy-cluster")
        return Kubectl(provider.kubeconfig())


@app.callback()
def options(  # noqa: PLR0917  typer passes them by name
    context: typer.Context,
    cluster: Annotated[
        str, typer.Option(envvar="CLUSTER", help="cluster provider: kind or current")
    ] = "kind",
    kube_context: Annotated[
        str | None,
        typer.Option("--context", envvar="CONTEXT", help="kubeconfig context for CLUSTER=current"),
    ] = None,
    name: Annotated[
        str, typer.Option(envvar="CLUSTER_NAME", help="name of the kind cluster")
    ] = "prefect-platform",
    nodes: Annotated[
        int | None,
        typer.Option(min=1, envvar="NODES", help="number of nodes of a new kind cluster"),
    ] = None,
    engine: Annotated[
        str | None, typer.Option(envvar="ENGINE", help="Docker engine to use: existing or private")
    ] = None,
    node_image: Annotated[
        str | None,
        typer.Option(envvar="NODE_IMAGE", help="source of the node image: registry or build"),
    ] = None,
    builder: Annotated[
        str | None, typer.Option(envvar="BUILDER", help="image builder to use: docker or buildah")
    ] = None,
) -> None:
    """Run Prefect on Kubernetes."""
    given = {"CLUSTER": cluster, "ENGINE": engine, "NODE_IMAGE": node_image, "BUILDER": builder}
    for variable, value in {**given, "CLIENTS": os.environ.get("CLIENTS")}.items():
        refuse_other(variable, value)
    context.obj = _Options(cluster, kube_context, name, nodes, engine, node_image, builder)


Date = Annotated[str, typer.Option(envvar="DATE", help="day in 2013 that the first run processes")]
UnenforcedPolicies = Annotated[
    str | None,
    typer.Option(
        envvar="UNENFORCED_POLICIES",
        help="accept: continue even if the network does not enforce NetworkPolicies",
    ),
]

Uncommitted = Annotated[
    str | None,
    typer.Option(envvar="UNCOMMITTED", help="accept: use images of files that are not committed"),
]


@app.command()
def deploy(
    context: typer.Context,
    date: Date = _DAY,
    unenforced_policies: UnenforcedPolicies = None,
    environment: Annotated[
        str,
        typer.Option(
            envvar="ENVIRONMENT",
            help="folder of k8s/environments; others than local need CLUSTER=current",
        ),
    ] = "local",
    registry: Annotated[
        str,
        typer.Option(
            envvar="REGISTRY",
            help="registry, as HOST/PATH: push the images to it, and let the nodes pull them",
        ),
    ] = "",
) -> None:
    """Create the cluster, deploy the platform and run the daily ETL once; safe to repeat."""
    from prefect_platform_cli import reports
    from prefect_platform_cli.deploy import platform
    from prefect_platform_cli.deploy.first_run import parse_day
    from prefect_platform_cli.images.remote import Registry
    from prefect_platform_cli.lint.command import refuse_errors

    chosen: _Options = context.obj
    day = parse_day(date)
    remote = Registry(registry) if registry else None
    refuse_other("UNENFORCED_POLICIES", unenforced_policies)
    chosen.refuse_ignored()
    accepted = unenforced_policies is not None
    if environment != "local":
        ignored = {"DATE": date != _DAY, "REGISTRY": registry, "BUILDER": chosen.builder}
        _deploy_environment(chosen, environment, ignored, accept_unenforced=accepted)
        return
    provider = chosen.provider()
    refuse_errors()
    changed = provider.create()
    loaded = [] if remote else chosen.images()
    references = (
        {image.name: f"{registry}/{image.name}@{image.digest}" for image in chosen.push(remote)}
        if remote
        else {image.name: image.reference for image in loaded}
    )
    outcome = platform.deploy(provider, references, day, loaded=loaded, accept_unenforced=accepted)
    reports.print_deployed(provider, outcome, day, changed=changed or outcome.changed)


def _deploy_environment(
    chosen: _Options, name: str, ignored: Mapping[str, object], *, accept_unenforced: bool
) -> None:
    """Deploy an environment whose images are in a registry; `ignored` are variables for `local`."""
    from prefect_platform_cli.deploy.environment import deploy_environment, environment_file
    from prefect_platform_cli.kube.kubectl import Kubectl

    for variable in (variable for variable, value in ignored.items() if value):
        raise PlatformError(
            f"{variable} has no effect with ENVIRONMENT={name}, whose images are those of its "
            "images.yaml, and which starts no run",
            next_step=f"leave {variable} out",
        )
    file = environment_file(name)
    if chosen.cluster != "current":
        raise PlatformError(
            f"ENVIRONMENT={name} cannot be deployed to a kind cluster",
            next_step=f"make deploy-cluster ENVIRONMENT={name} CLUSTER=current CONTEXT=NAME",
        )
    provider = chosen.provider()
    provider.create()
    changed = deploy_environment(
        Kubectl(provider.kubeconfig()), file, accept_unenforced=accept_unenforced
    )
    out.print(f"The environment {name} is deployed." if changed else "Nothing changed.")


@app.command()
def deploy_argocd(
    context: typer.Context,
    date: Date = _DAY,
    unenforced_policies: UnenforcedPolicies = None,
    uncommitted: Uncommitted = None,
) -> None:
    """Create the cluster, let Argo CD deploy the commit that is checked out, and run the ETL."""
    from prefect_platform_cli import reports
    from prefect_platform_cli.deploy.argocd import deployment
    from prefect_platform_cli.deploy.argocd.repository import refuse_shallow
    from prefect_platform_cli.deploy.first_run import parse_day
    from prefect_platform_cli.images.push import refuse_uncommitted
    from prefect_platform_cli.lint.command import refuse_errors

    chosen: _Options = context.obj
    day = parse_day(date)
    refuse_other("UNENFORCED_POLICIES", unenforced_policies)
    refuse_other("UNCOMMITTED", uncommitted)
    chosen.refuse_ignored()
    refuse_shallow()
    if uncommitted is None:
        refuse_uncommitted()
    provider = chosen.provider()
    refuse_errors()
    changed = provider.create()
    images = [*chosen.images(), *chosen.images("argocd")]
    accepted = unenforced_policies is not None
    outcome = deployment.deploy(provider, images, day, accept_unenforced=accepted)
    reports.print_deployed(provider, outcome, day, changed=changed or outcome.changed)


@app.command()
def destroy(context: typer.Context) -> None:
    """Delete the cluster and everything that was created for it on this machine."""
    context.obj.provider().delete()
    out.print("The cluster is deleted. The programs and images that were built stay in the cache.")


@app.command()
def status(context: typer.Context) -> None:
    """Show engine, nodes, components, releases, base image, pods not ready and why, work pools."""
    from prefect_platform_cli import reports

    reports.print_status(context.obj.provider())


@app.command()
def image(context: typer.Context) -> None:
    """Build the images, and load them into the cluster if it is running."""
    from prefect_platform_cli.deploy import platform
    from prefect_platform_cli.lint.command import refuse_errors

    chosen: _Options = context.obj
    refuse_errors()
    images = chosen.images()
    provider = chosen.provider()
    if provider.status().running:
        platform.load(provider, images)
    for built in images:
        out.print(f"{built.reference}  {built.archive}")


@app.command()
def push(
    context: typer.Context,
    registry: Annotated[
        str, typer.Option(envvar="REGISTRY", help="registry to push to, as HOST/PATH")
    ] = "",
    environment: Annotated[
        str, typer.Option(envvar="ENVIRONMENT", help="folder of k8s/environments to write to")
    ] = "",
    uncommitted: Uncommitted = None,
    signing_key: Annotated[
        str,
        typer.Option(
            envvar="SIGNING_KEY",
            help="sign the images and charts with this key of cosign: a file, "
            "env://COSIGN_PRIVATE_KEY for the content of one, or the address of a key in a KMS",
        ),
    ] = "",
) -> None:
    """Build the images, push them and the charts, and write the digests to images.yaml."""
    from prefect_platform_cli.images import environment as environments
    from prefect_platform_cli.images.charts import push_charts
    from prefect_platform_cli.images.push import refuse_uncommitted
    from prefect_platform_cli.images.remote import Registry
    from prefect_platform_cli.images.signature import signer, withhold_key
    from prefect_platform_cli.lint.command import refuse_errors

    chosen: _Options = context.obj
    withhold_key(signing_key)
    refuse_other("UNCOMMITTED", uncommitted)
    remote = Registry(registry)
    file = environments.images_file(environment)
    if uncommitted is None:
        refuse_uncommitted()
    refuse_errors()
    signing = signer(signing_key) if signing_key else None
    pushed = chosen.push(remote, _PUSHED, signing)
    pushed_charts = push_charts(remote, signer=signing)
    changed = environments.write(
        file, environments.Images(registry, {image.name: image.digest for image in pushed})
    )
    for image in pushed:
        kept = "" if image.is_new else "  already in the registry"
        out.print(f"{registry}/{image.name}@{image.digest}{kept}", markup=False)
    for chart in pushed_charts:
        kept = "" if chart.is_new else "  already in the registry"
        out.print(f"{chart.address} --version {chart.version}{kept}", markup=False)
    name = file.relative_to(REPOSITORY)
    out.print(f"Next: git commit {name}" if changed else f"Nothing changed in {name}", markup=False)


@app.command()
def promote(
    source: Annotated[str, typer.Argument(help="environment whose images are promoted")],
    target: Annotated[str, typer.Argument(help="environment that gets them")],
) -> None:
    """Copy the digests of one environment's images to another, and commit the file."""
    from prefect_platform_cli.images import promotion

    promoted = promotion.promote(source, target)
    for image in promoted or ():
        out.print(f"{image.name}:", markup=False)
        for line in image.commits:
            out.print(f"  {line}", markup=False)
    out.print(
        f"Nothing changed: {target} has the images of {source}"
        if promoted is None
        else f"Committed k8s/environments/{target}/images.yaml",
        markup=False,
    )


@app.command()
def ui(
    context: typer.Context,
    port: Annotated[int, typer.Option(min=1, max=65535, envvar="PORT", help="local port")] = 4200,
) -> None:
    """Port-forward to the user interface; print its address and how to get its password."""
    from prefect_platform_cli import reports
    from prefect_platform_cli.deploy.connection import forwarded

    kubectl: Kubectl = context.obj.kubectl()
    reports.refuse_busy_port(port)
    with forwarded(kubectl, port) as url:
        reports.print_ui(kubectl, url)
        signal.pause()


@app.command()
def logs(
    context: typer.Context,
    run: Annotated[
        str | None, typer.Argument(envvar="RUN", help="name of the flow run; by default the newest")
    ] = None,
) -> None:
    """Show the logs of a flow run, even after its pod is gone."""
    from prefect_platform_cli import reports
    from prefect_platform_cli.deploy.connection import connected

    with connected(context.obj.kubectl()) as client:
        reports.print_logs(client, run)


@app.command()
def run(
    context: typer.Context,
    deployment: Annotated[
        str,
        typer.Argument(
            envvar="DEPLOYMENT", help="FLOW/DEPLOYMENT, or FLOW if it has one deployment"
        ),
    ] = "",
    param: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="parameter of the run, as JSON or text"),
    ] = None,
) -> None:
    """Run a deployment once with the flows as they are now, without a deploy; follow its log."""
    from prefect_platform_cli.deploy.argocd.ownership import refuse_argocd
    from prefect_platform_cli.deploy.connection import connected
    from prefect_platform_cli.deploy.edited_run import parse_parameters, start
    from prefect_platform_cli.deploy.followed_run import follow
    from prefect_platform_cli.lint.command import refuse_errors

    chosen: _Options = context.obj
    parameters = parse_parameters(param or ())
    kubectl = chosen.kubectl()
    stores = chosen.provider().image_stores()
    refuse_argocd(kubectl.api())
    refuse_errors()
    with connected(kubectl) as client:
        follow(client, start(client, stores, deployment, parameters))


@app.command()
def limits(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(help="name of a limit, tag, deployment, pool or queue")
    ] = None,
) -> None:
    """Show the slots of concurrency limits, who holds them since when, and who waits."""
    from prefect_platform_cli import reports
    from prefect_platform_cli.deploy.connection import connected
    from prefect_platform_cli.doctor.concurrency_limits import ConcurrencyLimits

    with connected(context.obj.kubectl()) as client:
        reports.print_limits(ConcurrencyLimits(client).read(), name)


@app.command()
def base() -> None:
    """Pin the base of the images to what its tag names in the registry today."""
    from prefect_platform_cli.images.pinned_base import pin_base

    pinned, changed = pin_base()
    out.print(f"{'Pinned' if changed else 'Nothing changed: pinned'} {pinned.reference}")
    out.print(f"It was created on {pinned.created:%Y-%m-%d}.")


Environment = Annotated[
    str | None, typer.Option(envvar="ENVIRONMENT", help="folder of k8s/environments")
]
PlatformFile = Annotated[
    Path | None, typer.Option("--file", help="platform.yaml to use instead of the environment's")
]
Deployments = Annotated[Path, typer.Option(help="file with the deployments of the flows")]
Prune = Annotated[bool, typer.Option("--prune", help="delete what is no longer declared")]


@app.command()
def validate(
    context: typer.Context,
    environment: Environment = None,
    file: PlatformFile = None,
    deployments: Deployments = REPOSITORY / "prefect.yaml",
) -> None:
    """Check platform.yaml and prefect.yaml without a server."""
    from prefect_platform.configuration import commands

    commands.validate(_files(context.obj, environment, file, deployments))


@app.command()
def schedule(
    context: typer.Context,
    environment: Environment = None,
    file: PlatformFile = None,
    deployments: Deployments = REPOSITORY / "prefect.yaml",
    following: Annotated[
        str, typer.Option("--next", help="how far to look ahead: 30d, 12h or 90m")
    ] = "7d",
) -> None:
    """Show scheduled runs in local time; mark clock changes and runs that a limit holds back."""
    from prefect_platform import retention_file as retention
    from prefect_platform.configuration import commands

    try:
        seconds = retention.seconds(following)
    except ValueError as error:
        raise PlatformError(
            f"--next: {error}", next_step="prefect-platform schedule --next 30d"
        ) from error
    now = dt.datetime.now(dt.UTC)
    end = now + dt.timedelta(seconds=seconds)
    commands.schedule(_files(context.obj, environment, file, deployments), now, end)


@app.command()
def plan(
    context: typer.Context,
    environment: Environment = None,
    file: PlatformFile = None,
    deployments: Deployments = REPOSITORY / "prefect.yaml",
    *,
    prune: Prune = False,
) -> None:
    """Show what apply would change on the server; exit with 2 if there are changes."""
    from prefect_platform.configuration import commands

    with _server(context.obj) as (client, cluster):
        files = _files(context.obj, environment, file, deployments)
        differs = commands.plan(client, files, cluster, prune=prune)
    if differs:
        raise typer.Exit(_DIFFERS)


@app.command()
def apply(
    context: typer.Context,
    environment: Environment = None,
    file: PlatformFile = None,
    deployments: Deployments = REPOSITORY / "prefect.yaml",
    *,
    prune: Prune = False,
) -> None:
    """Change the server to match platform.yaml and prefect.yaml; safe to repeat."""
    from prefect_platform.configuration import commands

    with _server(context.obj) as (client, cluster):
        files = _files(context.obj, environment, file, deployments)
        commands.apply(client, files, cluster, prune=prune)


@app.command()
def export(context: typer.Context) -> None:
    """Print the server's configuration as a platform.yaml that refers to secrets by name."""
    from prefect_platform.configuration import commands

    with _server(context.obj) as (client, cluster):
        commands.export(client, cluster)


@app.command()
def lint(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="files and folders; by default our own flows")
    ] = None,
    output: Annotated[str, typer.Option("--format", help="text, json, sarif or github")] = "text",
    file: PlatformFile = None,
    explain: Annotated[
        str | None, typer.Option(metavar="ID", help="explain a rule instead, with examples")
    ] = None,
    *,
    correct: Annotated[
        bool,
        typer.Option(
            "--fix", help="fix the findings that have exactly one fix, then report the others"
        ),
    ] = False,
) -> None:
    """Check flows and prefect.yaml without running them; exit with 1 if something is found."""
    from prefect_platform_cli.lint import command
    from prefect_platform_cli.lint.catalogue import explanation

    if explain is not None:
        out.print(explanation(explain), markup=False)
        return
    given = paths or list(command.OURS)
    raise typer.Exit(command.run(given, command.parse_format(output), file, correct=correct))


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="name of the flow, such as load-orders")],
    template: Annotated[
        str,
        typer.Option(help="fan-out, incremental-load, external-job or sql-steps"),
    ],
) -> None:
    """Write a new flow with its deployment and its test, made from a template."""
    from prefect_platform_cli.new_flow import command

    command.run(name, template)


@doctor.command()
def isolation(
    context: typer.Context,
    world: Annotated[
        str, typer.Option(help="address and port outside the cluster that accepts connections")
    ] = "1.1.1.1:443",
) -> None:
    """Test from pods which connections are possible; exit with 1 if one is not as declared."""
    from prefect_platform_cli import reports
    from prefect_platform_cli.doctor.isolation import parse_address, refuse_wrong
    from prefect_platform_cli.doctor.isolation_probe import probe

    with step("Test the connections between the parts of the platform"):
        cells = probe(context.obj.kubectl(), parse_address(world))
    reports.print_isolation(cells)
    refuse_wrong(cells)


@doctor.command()
def pools(context: typer.Context) -> None:
    """Check what confines the runs of each work pool; exit with 1 if something is missing."""
    from kubernetes import client

    from prefect_platform_cli import reports
    from prefect_platform_cli.deploy.connection import connected
    from prefect_platform_cli.doctor.components import base_job_templates
    from prefect_platform_cli.doctor.pools import refuse_faults, walls

    kubectl = context.obj.kubectl()
    api = kubectl.api()
    templates = base_job_templates(client.CoreV1Api(api))
    with connected(kubectl) as prefect:
        found = walls(api, prefect, templates)
    reports.print_walls(found)
    refuse_faults(found)


def _files(
    chosen: _Options, environment: str | None, file: Path | None, deployments: Path
) -> "Files":
    """Return the files of an environment; only a kind cluster has a default, `local`."""
    from prefect_platform.configuration.platform_file import Files

    if environment is None and chosen.cluster != "kind":
        raise PlatformError(
            f"CLUSTER={chosen.cluster} needs --environment: files of the wrong environment would "
            "change or delete resources of its server",
            next_step="prefect-platform plan --environment production",
        )
    folder = REPOSITORY / "k8s" / "environments" / (environment or "local")
    return Files(file or folder / "platform.yaml", deployments, folder / "retention.yaml")


@contextmanager
def _server(chosen: _Options) -> "Iterator[tuple[SyncPrefectClient, FromCluster]]":
    """Yield a client of the cluster's server, and the context that finds its Secrets."""
    from prefect_platform_cli.deploy.connection import connected
    from prefect_platform_cli.deploy.context import FromCluster

    kubectl = chosen.kubectl()
    with connected(kubectl) as client:
        yield client, FromCluster(kubectl)


def main() -> None:
    """Run the command line; report a failure as a cause and a next step, not a traceback."""
    try:
        app()
    except PlatformError as error:
        err.print(f"[red]error:[/] {escape(error.message)}")
        err.print(f"[bold]next:[/] {escape(error.next_step)}")
        sys.exit(1)
    except SystemExit as ended:
        if ended.code == _INTERRUPTED:  # typer exits like this on Ctrl-C, without a message
            err.print("Interrupted. Run the same command again to continue from here.")
        raise
    except Exception as error:
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        if not isinstance(error, ApiException | HTTPError):
            raise
        reason = error.reason if isinstance(error, ApiException) else error
        err.print(
            "[red]error:[/] the Kubernetes API refused the request or did not answer: "
            f"{escape(str(reason))}"
        )
        err.print("[bold]next:[/] make status")
        sys.exit(1)
