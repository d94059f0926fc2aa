"""A flow that cannot be loaded has its cause in one line, stops no other, and sees no secret."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from prefect_platform.configuration.deployments import flow_loader
from prefect_platform.configuration.deployments.entrypoints import EntrypointError
from prefect_platform.configuration.deployments.flow_loader import FlowLoader

_FLOW = "from prefect import flow\n@flow\ndef run(): ...\n"
_SECRET = "highly-secret"


@pytest.fixture
def new_fork_server() -> Iterator[None]:
    """Let the test start the fork server, with its own environment, and later tests another."""
    flow_loader._fork_server.cache_clear()
    yield
    flow_loader._fork_server.cache_clear()


@pytest.mark.parametrize(
    ("mistake", "told"),
    [
        (
            "from json import nothing",
            "broken.py cannot be loaded: ImportError: cannot import name 'nothing' from 'json' "
            f"({json.__file__}) (broken.py, line 4)",
        ),
        ("def", "broken.py cannot be loaded: SyntaxError: invalid syntax (broken.py, line 4)"),
        (
            "import helper",
            "broken.py cannot be loaded: ValueError: two lines (helper.py, line 1)",
        ),
        (
            "@flow(name=3)\ndef rejected(): ...",
            "broken.py cannot be loaded: TypeError: Expected string for flow parameter 'name'; "
            "got int instead. (broken.py, line 4)",
        ),
        (
            "raise KeyboardInterrupt",
            "broken.py cannot be loaded: KeyboardInterrupt (broken.py, line 4)",
        ),
        ("import sys; sys.exit(3)", "broken.py ended the interpreter with exit code 3"),
        ("import os; os._exit(0)", "broken.py ended the interpreter with exit code 0"),
        ("import os; os.kill(os.getpid(), 9)", "broken.py was killed by signal 9 (Killed)"),
        ("import os; os.killpg(0, 15)", "broken.py was killed by signal 15 (Terminated)"),
        ("import os; os.kill(os.getppid(), 9)", "broken.py ended the process that loads all flows"),
    ],
)
def test_a_broken_flow_is_told_in_one_line_and_stops_no_other(
    tmp_path: Path, mistake: str, told: str
) -> None:
    (tmp_path / "broken.py").write_text(f"{_FLOW}{mistake}\n")
    (tmp_path / "helper.py").write_text("raise ValueError('two\\nlines')\n")
    (tmp_path / "works.py").write_text(_FLOW)
    loader = FlowLoader(tmp_path)

    with pytest.raises(EntrypointError) as caught:
        loader.load("broken.py:run")

    assert caught.value.cause == told
    assert loader.load("works.py:run").name == "run"


def test_a_flow_that_hangs_is_ended_with_what_it_started(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "held")
    held = os.open(tmp_path / "held", os.O_RDONLY | os.O_NONBLOCK)
    (tmp_path / "hangs.py").write_text(
        f"{_FLOW}import subprocess, threading\n"
        "subprocess.Popen(['sleep', 'infinity'], stdout=open('held', 'w'))\n"
        "threading.Event().wait()\n"
    )
    (tmp_path / "works.py").write_text(_FLOW)

    with pytest.raises(EntrypointError, match=r"hangs\.py did not import within 3 s"):
        FlowLoader(tmp_path, limit=3).load("hangs.py:run")

    assert FlowLoader(tmp_path).load("works.py:run").name == "run"
    os.set_blocking(held, True)
    assert os.read(held, 1) == b"", "a process that the flow started still runs"


def test_a_flow_whose_turn_comes_too_late_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "works.py").write_text(_FLOW)

    with pytest.raises(EntrypointError, match="was not loaded, because others took all of the 0 s"):
        FlowLoader(tmp_path, limit_of_all=0).load("works.py:run")


def test_a_flow_may_print_when_it_is_imported(tmp_path: Path) -> None:
    (tmp_path / "prints.py").write_text(
        f"{_FLOW}import os\nprint('{{}}', flush=True)\nos.write(1, b'{{}}\\n')\n"
    )

    assert FlowLoader(tmp_path).load("prints.py:run").name == "run"


@pytest.mark.usefixtures("new_fork_server")
def test_a_flow_finds_no_secret_in_its_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profiles = f"active = 'p'\n[profiles.p]\nPREFECT_API_AUTH_STRING = '{_SECRET}'\n"
    (tmp_path / "profiles.toml").write_text(profiles)
    (tmp_path / ".env").write_text(f"PREFECT_API_AUTH_STRING={_SECRET}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", _SECRET)
    monkeypatch.setenv("PREFECT_CLIENT_CUSTOM_HEADERS", f'{{"authorization": "{_SECRET}"}}')
    monkeypatch.setenv("GITHUB_TOKEN", _SECRET)
    monkeypatch.setenv("DATABASE_URL", f"postgresql://flows:{_SECRET}@database/flows")
    monkeypatch.setenv("REGION", "eu-central-1")
    (tmp_path / "curious.py").write_text(
        "import os\nfrom prefect import flow\nfrom prefect.settings import get_current_settings\n"
        "settings = get_current_settings().model_dump(context={'include_secrets': True})\n"
        "seen = [os.environ, open('/proc/self/environ').read(), settings]\n"
        "@flow(description=f'{seen}')\ndef run(): ...\n"
    )

    seen = FlowLoader(tmp_path).load("curious.py:run").description

    assert seen
    assert "eu-central-1" in seen
    assert _SECRET not in seen
