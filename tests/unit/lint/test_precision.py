"""Cases beside the examples of the page: what a rule has to find, and what it must not."""

import re
from pathlib import Path
from textwrap import dedent

import pytest

from prefect_platform_cli.lint.formats import Format, render
from prefect_platform_cli.lint.linter import lint

_TASK = "import asyncio, subprocess, time\nfrom prefect import task\n@task\n"
_ASYNC = "import asyncio\nfrom prefect import task\n@task\nasync "
# Put together here, so that a search for secrets in this repository does not find them.
AWS_KEY = "AKIA" + "Q3EGRZ7T5CVNM2PX"
PREFECT_KEY = "pnu_" + "x7Kq2mZp" * 5
PRIVATE_KEY = "-----BEGIN RSA " + "PRIVATE KEY-----"
ADDRESS = "postgresql://etl:" + "w4rehouse!" + "@db/flights"
SECRETS = {
    "a key of AWS": f"client(key={AWS_KEY!r})",
    "a key of Prefect": f"login({PREFECT_KEY!r})",
    "a private key": f"PEM = {PRIVATE_KEY!r}",
    "an address": f"connect({ADDRESS!r})",
    "a keyword": "connect(password='w4rehouse!')",
    "a default": "def connect(host, *, password='w4rehouse!'): pass",
    "a positional default": "def connect(host, db_password='w4rehouse!'): pass",
    "a key of a mapping": "options = {'db-password': 'w4rehouse!'}",
    "an attribute": "settings.apiKey = 'q8Zr3xKw91'",
    "a variable": "import os\nos.environ['SERVICE_TOKEN'] = 'q8Zr3xKw91'",
    "a default of the environment": "import os\nos.environ.get('DB_PASSWORD', 'w4rehouse!')",
    "a header": "headers = {'Authorization': 'Bearer q8Zr3xKw91aa'}",
}
NO_SECRETS = (
    "password = os.environ['PASSWORD']",
    "connect(password=PASSWORD)",
    "password = Secret.load('warehouse-password').get()",
    "PASSWORD_VARIABLE = 'WAREHOUSE_PASSWORD'",
    "connect(password='DB_PASSWORD')",
    "connect(password='')",
    "connect(password='<your password>')",
    "connect(password='{{ prefect.blocks.secret.x }}')",
    "form = {'password': 'password', 'token': 'token'}",
    "token = 'my-block'",
    "secret_key = 'warehouse-2'",
    "next_page_token = 'CAoQ7f2x91'",
    "tokenizer.pad_token = 'pad0000001'",
    "headers = {'Authorization': f'Bearer {token}'}",
    "url = f'postgresql://{user}:{password}@{host}/db'",
    "url = 'postgresql://user:password@host/db'",
    "token_url = 'https://login.test/oauth2'",
    "api_key = '/run/secrets/key1'",
    "digest = '9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08'",
    '"""Such as postgresql://etl:w4rehouse!@db."""',
)
FOUND = {
    "PF001 a script without a guard": "import requests\nrequests.get('https://x.test', timeout=5)",
    "PF001 tasks without a flow": """
        from prefect import task
        @task
        def load(): pass
        if __name__ == "__main__": load()
    """,
    "PF001 a request beside the flow": """
        import requests
        from prefect import flow
        @flow
        def report(): pass
        if __name__ == "__main__":
            requests.get("https://x.test", timeout=5)
            report()
    """,
    "PF002 a thread": """
        from concurrent.futures import ThreadPoolExecutor
        from prefect import flow
        import httpx
        def fetch(url): return httpx.get(url)
        @flow
        def report(urls: list[str]):
            with ThreadPoolExecutor() as pool: pool.map(fetch, urls)
    """,
    "PF006 a task of a flow without log_prints": """
        from prefect import flow, task
        @task
        def load(): print("x")
        @flow
        def report(): load.submit()
    """,
    "PF006 a helper": """
        from prefect import flow
        def tell(): print("x")
        @flow
        def report(): tell()
    """,
    "PF007 a process": _TASK + "def load(): subprocess.run(['x'])",
    "PF007 a process that is waited for": _TASK + "def load(): subprocess.Popen(['x']).wait()",
    "PF007 an endless loop": _TASK
    + "def load(x):\n  while True:\n    if x(): return\n    time.sleep(1)",
    "PF007 an asynchronous loop": _ASYNC + "def load(x):\n  while not x(): await asyncio.sleep(1)",
    "PF007 a long sleep": _TASK + "def load(): time.sleep(3600)",
    "PF008 timeout=None": "import httpx\nhttpx.Client(timeout=None)",
    "PF008 urlopen": "def f(url):\n  from urllib.request import urlopen\n  urlopen(url, None)",
    "PF101 a data frame": _TASK + "def load(frame): frame.to_csv('out.csv')",
    "PF101 the home folder": _TASK
    + "def load():\n  from pathlib import Path\n  (Path.home() / 'x').write_text('x')",
    "PF101 an open file": _TASK + "def load(): open('/data/x', mode='w')",
    "PF102 a shell": _TASK + "def load():\n  import os\n  os.system('git pull')",
    "PF104 a server": "from prefect import flow\n@flow\ndef f(): pass\nf.serve()",
    "PF201 a key function": """
        from prefect import task
        @task(cache_key_fn=lambda *_: "x", persist_result=False)
        def load(): pass
    """,
    "PF202 a policy that is assigned": """
        from prefect import task
        from prefect.cache_policies import INPUTS
        POLICY = INPUTS
        @task(cache_policy=POLICY)
        def load(): pass
    """,
    "PF203 a block by name": """
        from prefect import task
        @task(result_storage="local-file-system/results")
        def load(): pass
    """,
    "PF301 a list": """
        from prefect.concurrency.asyncio import rate_limit
        async def f(): await rate_limit(["warehouse", "api"], strict=True)
    """,
    "PF302 strict=False": """
        from prefect.concurrency.sync import rate_limit
        def f(): rate_limit("warehouse", strict=False)
    """,
}
NOT_FOUND = {
    "a script that deploys": """
        from prefect import flow
        if __name__ == "__main__":
            flow.from_source(source=".", entrypoint="report.py:report").deploy(name="daily")
    """,
    "a script that starts a deployment": """
        from prefect.deployments import run_deployment
        def main(): run_deployment("report/daily")
        if __name__ == "__main__": main()
    """,
    "a print to a file": """
        import sys
        from prefect import flow
        @flow
        def report(): print("x", file=sys.stderr)
    """,
    "a task that may be called by a flow elsewhere": """
        from prefect import task
        @task
        def load(): print("x")
    """,
    "a task of a flow with log_prints": """
        from prefect import flow, task
        @task
        def load(): print("x")
        @flow(log_prints=True)
        def report(): load.map([1])
    """,
    "a loop with a deadline": _TASK
    + "def load(x):\n  end = time.monotonic() + 9\n"
    + "  while time.monotonic() < end: time.sleep(1)",
    "a loop with a counter": _TASK
    + "def load(x):\n  n = 0\n  while n < 9:\n    n += 1\n    time.sleep(1)",
    "a loop within a timeout": _ASYNC
    + "def load(x):\n  async with asyncio.timeout(9):\n"
    + "    while not x(): await asyncio.sleep(1)",
    "a process with a timeout": _TASK + "def load(): subprocess.run(['x'], timeout=5)",
    "a process with options": _TASK + "def load(o): subprocess.run(['x'], **o)",
    "a timeout by position": """
        from urllib.request import urlopen
        def f(url): urlopen(url, None, 5)
    """,
    "a session with an adapter": """
        import requests
        def f(adapter):
            session = requests.Session()
            session.mount("https://", adapter)
            session.get("https://x.test")
    """,
    "a session of a class with a timeout": """
        import requests
        class Session(requests.Session):
            def request(self, *a, **k): return super().request(*a, timeout=5, **k)
        def f(): Session().get("https://x.test")
    """,
    "a connection string": "import psycopg\ndef f(dsn): psycopg.connect(dsn)",
    "a file in /tmp": _TASK + "def load(frame): frame.to_csv('/tmp/out.csv')",
    "a file in a bucket": _TASK + "def load(frame): frame.to_parquet('s3://b/out.parquet')",
    "a file that is read": _TASK + "def load(): open('query.sql')",
    "the default policy": """
        from prefect import task
        from prefect.cache_policies import DEFAULT, INPUTS, RUN_ID
        @task(cache_policy=DEFAULT)
        def load(): pass
        @task(cache_policy=INPUTS + RUN_ID)
        def save(): pass
    """,
    "no cache": """
        from prefect import task
        from prefect.cache_policies import NO_CACHE
        @task(cache_policy=NO_CACHE, persist_result=False)
        def load(): pass
    """,
    "a name that is computed": """
        from prefect.concurrency.sync import concurrency
        def f(name):
            with concurrency(name, strict=True): pass
    """,
    "a flow that is a method": """
        from prefect import flow
        class Report:
            @flow
            def run(self, day: str) -> None: pass
    """,
}


def found(text: str, folder: Path) -> set[str]:
    (folder / "example.py").write_text(dedent(text))
    report = lint([folder], frozenset({"warehouse"}))
    assert report.unreadable == []
    return {each.rule.id for each in report.findings}


@pytest.mark.parametrize("case", FOUND)
def test_a_fault_is_found(case: str, tmp_path: Path) -> None:
    assert case.partition(" ")[0] in found(FOUND[case], tmp_path)


@pytest.mark.parametrize("case", NOT_FOUND)
def test_what_is_right_or_unclear_is_not_found(case: str, tmp_path: Path) -> None:
    assert found(NOT_FOUND[case], tmp_path) == set()


@pytest.mark.parametrize("case", SECRETS)
def test_a_secret_is_found_and_shown_in_no_format(case: str, tmp_path: Path) -> None:
    (tmp_path / "example.py").write_text(SECRETS[case])
    report = lint([tmp_path])

    assert [each.rule.id for each in report.findings] == ["PF005"]
    shown = "".join(render(report, each) for each in Format)
    secrets = (AWS_KEY, PREFECT_KEY, PRIVATE_KEY, "w4rehouse!", "q8Zr3xKw91")
    assert not any(re.search(re.escape(each), shown) for each in secrets)


@pytest.mark.parametrize("text", NO_SECRETS)
def test_what_only_looks_like_a_secret_is_not_found(text: str, tmp_path: Path) -> None:
    assert found(text, tmp_path) == set()
