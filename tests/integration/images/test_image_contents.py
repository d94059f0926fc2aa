"""The images contain only what runs, no compilers or installers, and need no writable root."""

import json
import re
import tarfile

import httpx
import pytest
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from prefect_platform_cli.host.paths import REPOSITORY
from prefect_platform_cli.images.build import Image
from prefect_platform_cli.images.catalogue import RECIPES, recipes
from prefect_platform_cli.images.provenance import build_arguments
from tests.integration.images.contained import Contained
from tests.support.image_users import USERS
from tests.support.servers import free_ports

NAMES = [recipe.name for recipe in RECIPES]
PYTHON = ["platform", "flows"]
COMPILERS = ("cc", "gcc", "g++", "c++", "clang", "make", "ld", "as")
LABELS = {"title", "description", "version", "revision", "created", "source"}

# The modules that the charts run in pods.
OURS = sorted(
    {
        module
        for template in (REPOSITORY / "helm").rglob("*.*")
        for module in re.findall(r"prefect_platform\.[\w.]+", template.read_text())
    }
)
# Imports the modules that are its arguments, and prints the files that Python had to compile. As a
# control it also imports a module without byte code, which must be the only such file. `whenever`
# first tries a module for a newer Python, which has no byte code either; its SyntaxError keeps it
# out of the list.
IMPORT_ALL = """
import importlib, importlib.machinery, pathlib, sys
compiled = []
source_to_code = importlib.machinery.SourceFileLoader.source_to_code
def watched(self, data, path, **options):
    code = source_to_code(self, data, path, **options)
    compiled.append(path)
    return code
importlib.machinery.SourceFileLoader.source_to_code = watched
pathlib.Path("/tmp/control.py").write_text("")
sys.path.append("/tmp")
for name in [*sys.argv[1:], "control"]:
    importlib.import_module(name)
print(compiled)
"""
IMPORTED = {
    "platform": [
        *("prefect.main", "prefect.cli", "prefect.server.api.server", "prefect.server.services"),
        *("prefect_kubernetes.worker", "prefect_redis", "prefect_aws", *OURS),
    ],
    "flows": [
        *("prefect.main", "prefect.engine", "prefect.cli", "prefect_aws", "boto3", "psycopg"),
        *("pyarrow.parquet", "etl_daily", "publish_flights", "prefect_platform.worker.probe_flow"),
    ],
}


@pytest.fixture
def contained(request: pytest.FixtureRequest, name: str) -> Contained:
    found: Contained = request.getfixturevalue(name)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_the_user_is_numeric_so_that_kubernetes_can_verify_that_it_is_not_root(
    contained: Contained, name: str
) -> None:
    number = USERS[name]
    assert contained.config["User"] == f"{number}:{number}"


@pytest.mark.parametrize("name", NAMES)
def test_the_labels_name_the_image_and_its_source(contained: Contained, name: str) -> None:
    labels = contained.config["Labels"]
    (recipe,) = recipes([name])
    assert {f"org.opencontainers.image.{label}" for label in LABELS} <= set(labels)
    version = build_arguments(recipe.paths(REPOSITORY))["VERSION"]
    assert labels["org.opencontainers.image.version"] == version
    assert re.fullmatch(
        r"([0-9a-f]{40}(-modified)?|unknown)", labels["org.opencontainers.image.revision"]
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_labels_name_the_base_and_its_creation(
    contained: Contained, images: dict[str, Image], name: str
) -> None:
    expected = images[name].base.labels()
    assert {"org.opencontainers.image.base.name", "prefect-platform/base-created"} <= set(expected)
    assert expected.items() <= contained.config["Labels"].items()


@pytest.mark.parametrize("name", NAMES)
def test_the_configuration_contains_nothing_from_the_build_machine(
    contained: Contained, name: str
) -> None:
    config = contained.config
    variables = {variable.partition("=")[0] for variable in config["Env"]}
    assert variables <= {
        *("PATH", "LANG", "PGDATA", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"),
        *("PREFECT_HOME", "PREFECT_SERVER_UI_STATIC_DIRECTORY"),
    }
    history = json.dumps(config["History"])
    assert not re.search(r"PIP_(CERT|INDEX_URL|EXTRA_INDEX_URL|TRUSTED_HOST)=", history), name


@pytest.mark.parametrize("name", PYTHON)
def test_the_image_has_no_compiler_no_pip_no_cache_and_no_setuid_program(
    contained: Contained, name: str
) -> None:
    paths = contained.run(
        *("find", "/", "-xdev", "-type", "f", "("),
        *(word for compiler in COMPILERS for word in ("-name", compiler, "-o")),
        *("-path", "*/pip/__main__.py", "-o", "-name", "pip-*.whl", "-o", "-name", "pip3*", "-o"),
        *("-path", "*/.cache/*", "-o", "-path", "/var/lib/apt/lists/*_Packages", "-o"),
        *("-path", "/build/*", "-o", "-perm", "/6000", ")"),
    ).stdout
    assert paths == "", name
    pip = contained.run("python", "-m", "pip", "--version")
    assert pip.returncode != 0
    assert "No module named pip" in pip.stderr


@pytest.mark.parametrize("name", PYTHON)
def test_the_image_contains_no_code_that_runs_on_a_laptop(contained: Contained, name: str) -> None:
    found = contained.run(
        "python",
        "-c",
        "from importlib.util import find_spec as find\n"
        "names = ('prefect_platform', 'prefect_platform_cli', 'kubernetes', 'uv')\n"
        "print(*(each for each in names if find(each)))",
    )
    assert found.stdout.split() == ["prefect_platform"], name


@pytest.mark.parametrize("name", PYTHON)
def test_prefect_runs_with_a_read_only_root(contained: Contained, name: str) -> None:
    assert contained.run("touch", "/opt/prefect/written").returncode != 0
    answer = contained.run("prefect", "version")
    assert answer.returncode == 0, answer.stderr
    locked = (REPOSITORY / "requirements" / "base.txt").read_text()
    version = re.search(r"^prefect==(\S+)", locked, re.MULTILINE)
    assert version is not None
    assert re.search(rf"^Version: +{re.escape(version[1])}$", answer.stdout, re.MULTILINE), name


@pytest.mark.parametrize("name", PYTHON)
def test_imports_compile_nothing_because_the_image_contains_the_byte_code(
    contained: Contained, name: str
) -> None:
    imported = contained.run(
        *("python", "-c", IMPORT_ALL, *IMPORTED[name]),
        environment={"PYTHONPATH": "/opt/prefect/flows"},
    )
    assert imported.returncode == 0, imported.stderr
    assert imported.stdout.strip().splitlines()[-1] == "['/tmp/control.py']"


@pytest.mark.parametrize("name", PYTHON)
def test_byte_code_does_not_depend_on_the_timestamps_of_its_sources(
    contained: Contained, name: str
) -> None:
    flags = contained.run(
        "python",
        "-c",
        "import prefect, json, importlib.util as u\n"
        "for m in (prefect, json):\n"
        "    with open(u.cache_from_source(m.__file__), 'rb') as f: print(f.read(8)[4])",
    )
    # 1 means that the byte code carries a hash, and that Python does not check the source.
    assert flags.stdout.split() == ["1", "1"], name


def test_platform_and_flows_share_the_layers_of_the_system_and_prefect(
    platform: Contained, flows: Contained
) -> None:
    first, second = (contained.config["DiffIds"] for contained in (platform, flows))
    assert first[:3] == second[:3]
    assert first[3:] != second[3:]


def test_one_archive_contains_all_images_and_each_layer_once(images: dict[str, Image]) -> None:
    (archive,) = {image.archive for image in images.values()}
    with tarfile.open(archive) as packed:
        names = packed.getnames()
        index = packed.extractfile("index.json")
        assert index is not None
        manifests = json.load(index)["manifests"]
    assert len(names) == len(set(names))
    assert {entry["annotations"]["org.opencontainers.image.ref.name"] for entry in manifests} == {
        image.reference for image in images.values()
    }


def test_the_server_serves_its_user_interface_from_a_read_only_root(platform: Contained) -> None:
    (port,) = free_ports(1)
    server = platform.started(
        *("prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)),
        environment={"PREFECT_SERVER_ANALYTICS_ENABLED": "false"},
    )
    with server as running:

        @retry(
            retry=retry_if_exception_type(httpx.TransportError),
            wait=wait_fixed(0.5),
            stop=stop_after_delay(120),
            reraise=True,
        )
        def page(path: str) -> httpx.Response:
            assert running.process.poll() is None, running.process.communicate()
            return httpx.get(f"http://127.0.0.1:{port}{path}", follow_redirects=True, timeout=30)

        assert page("/api/health").json() is True
        html = page("/").text
        script = re.search(r'src="(/[^"]+\.js)"', html)
        assert script is not None, html
        assert page(script[1]).headers["content-type"].startswith("text/javascript")


def test_a_job_pod_can_write_parquet(flows: Contained) -> None:
    written = flows.run(
        "python",
        "-c",
        "import pyarrow as pa, pyarrow.parquet as pq\n"
        "pq.write_table(pa.table({'carrier': ['UA'], 'flights': [165]}), '/tmp/day.parquet')\n"
        "print(pq.read_table('/tmp/day.parquet').to_pylist())",
    )
    assert written.stdout == "[{'carrier': 'UA', 'flights': 165}]\n", written.stderr


def test_the_facts_about_every_deployed_flow_are_recorded(flows: Contained) -> None:
    declared = flows.run(
        "python",
        "-c",
        "from pathlib import Path\n"
        "from prefect_platform.configuration.core.context import Offline\n"
        "from prefect_platform.configuration.core.source import read\n"
        "from prefect_platform.configuration.deployments import prefect_yaml, recorded_facts\n"
        "facts = recorded_facts.RecordedFacts(Path(recorded_facts.NAME).resolve(), exit)\n"
        "for each in prefect_yaml.declare(read(Path('prefect.yaml')), Offline(), facts.load):\n"
        "    print(each.key.name)",
    )
    assert declared.stdout.split() == ["etl-daily/daily"], declared.stderr


def test_the_flows_and_their_deployments_are_where_the_work_pool_expects_them(
    flows: Contained,
) -> None:
    listed = flows.run("ls", "/opt/prefect/prefect.yaml", "/opt/prefect/flows/etl_daily.py")
    assert listed.returncode == 0, listed.stderr
    assert flows.config["WorkingDir"] == "/opt/prefect"
