"""Calls are found behind aliases, assignments, decorators, classes and modules; guesses are not."""

from pathlib import Path
from textwrap import dedent

import pytest

from prefect_platform_cli.lint.linter import lint

FOUND = {
    "an alias of the module": """
        import prefect as p, requests as r
        @p.task
        def load(): r.get("https://x.test", timeout=5)
    """,
    "an alias of the decorator": """
        from prefect import task as step
        from requests import get as fetch
        @step(name="load")
        def load(): fetch("https://x.test", timeout=5)
    """,
    "the module in which Prefect defines it": """
        import requests
        from prefect.tasks import task
        @task()
        def load(): requests.get("https://x.test", timeout=5)
    """,
    "a decorator that is assigned": """
        import requests
        from prefect import task
        step = task(log_prints=True)
        @step
        def load(): requests.get("https://x.test", timeout=5)
    """,
    "a partial decorator": """
        import functools, requests
        from prefect import task
        step = functools.partial(task, log_prints=True)
        @step(name="load")
        def load(): requests.get("https://x.test", timeout=5)
    """,
    "a decorator of our own": """
        import requests
        from prefect import task
        def step(function): return task(log_prints=True)(function)
        @step
        def load(): requests.get("https://x.test", timeout=5)
    """,
    "a call instead of a decorator": """
        import requests
        from prefect import task
        def fetch(): requests.get("https://x.test", timeout=5)
        load = task(fetch, name="load")
    """,
    "a call of what the decorator returns": """
        import requests
        from prefect import task
        def fetch(): requests.get("https://x.test", timeout=5)
        load = task(name="load")(fetch)
    """,
    "no retries by the name of a constant": """
        import requests
        from prefect import task
        RETRIES = 0
        @task(retries=RETRIES)
        def load(): requests.get("https://x.test", timeout=5)
    """,
    "a session in a context": """
        import requests
        from prefect import task
        @task
        def load():
            with requests.Session() as session:
                session.post("https://x.test", timeout=5)
    """,
    "an attribute of an object": """
        import httpx
        from prefect import task
        class Shop:
            def __init__(self): self.client = httpx.Client()
            def prices(self): return self.client.get("https://x.test")
        @task
        def load(): return Shop().prices()
    """,
    "an annotation": """
        from __future__ import annotations
        from typing import TYPE_CHECKING
        from prefect import task
        if TYPE_CHECKING:
            from mypy_boto3_s3 import S3Client
        @task
        def load(s3: S3Client | None): return s3.get_object(Bucket="b", Key="k")
    """,
    "a helper that returns the client": """
        import boto3
        from prefect import task
        def client(): return boto3.Session().client("s3")
        @task
        def load(): return client().list_objects_v2(Bucket="b")
    """,
    "an asynchronous task": """
        import aiohttp
        from prefect import task
        @task
        async def load():
            async with aiohttp.ClientSession() as session:
                return await session.get("https://x.test")
    """,
    "a thread": """
        import asyncio, requests
        from prefect import task
        def fetch(): return requests.get("https://x.test", timeout=5)
        @task
        async def load(): return await asyncio.to_thread(fetch)
    """,
    "an address that pandas reads": """
        import pandas as pd
        from prefect import task
        PRICES = "https://x.test/prices.csv"
        @task
        def load(): return pd.read_csv(PRICES)
    """,
}
NOT_FOUND = {
    "retries that are not a literal": """
        import os, requests
        from prefect import task
        @task(retries=int(os.environ["RETRIES"]))
        def load(): requests.get("https://x.test", timeout=5)
    """,
    "options that are unpacked": """
        import requests
        from prefect import task
        OPTIONS = {"retries": 3, "retry_delay_seconds": [1, 2, 4]}
        @task(**OPTIONS)
        def load(): requests.get("https://x.test", timeout=5)
    """,
    "retries that are given later": """
        import requests
        from prefect import flow, task
        @task
        def load(): requests.get("https://x.test", timeout=5)
        @flow
        def report(): load.with_options(retries=3, retry_delay_seconds=[1, 9])()
    """,
    "retries of a library": """
        import requests, tenacity
        from prefect import task
        @tenacity.retry(stop=tenacity.stop_after_attempt(3))
        def fetch(): requests.get("https://x.test", timeout=5)
        @task
        def load(): fetch()
    """,
    "a factory of decorators with retries": """
        import requests
        from prefect import task
        def step(retries): return task(retries=retries, retry_delay_seconds=[1, 9])
        @step(retries=3)
        def load(): requests.get("https://x.test", timeout=5)
    """,
    "a function of the same name": """
        from prefect import task
        class requests:
            @staticmethod
            def get(url): return url
        @task
        def load(): requests.get("https://x.test")
    """,
    "what a client computes locally": """
        import boto3
        from prefect import task
        @task
        def load(): return boto3.client("s3").generate_presigned_url("get_object")
    """,
    "a database in a file": """
        import sqlalchemy
        from prefect import task
        @task
        def load(): return sqlalchemy.create_engine("sqlite:////tmp/x.db").connect()
    """,
    "a function that is only defined": """
        import requests
        from prefect import task
        @task
        def load():
            def later(): return requests.get("https://x.test", timeout=5)
            return later
    """,
    "a decorator that is called task": """
        import requests
        from celery import task
        @task
        def load(): requests.get("https://x.test", timeout=5)
    """,
}


@pytest.mark.parametrize("case", FOUND)
def test_a_call_without_retries_is_found_behind(case: str, tmp_path: Path) -> None:
    assert network_rules(FOUND[case], tmp_path) == {"PF003"}


@pytest.mark.parametrize("case", NOT_FOUND)
def test_no_retries_are_missed_with(case: str, tmp_path: Path) -> None:
    assert network_rules(NOT_FOUND[case], tmp_path) == set()


def test_a_helper_is_found_in_another_module_without_being_linted_itself(tmp_path: Path) -> None:
    (tmp_path / "lib" / "web").mkdir(parents=True)
    (tmp_path / "lib" / "web" / "__init__.py").write_text("from .client import fetch\n")
    (tmp_path / "lib" / "web" / "client.py").write_text(
        "import requests\ndef fetch(): return requests.get('https://x.test', timeout=5)\n"
    )
    flow = tmp_path / "report.py"
    flow.write_text(
        "from prefect import flow\nfrom lib import web\n@flow\ndef report(): web.fetch()\n"
    )

    (found,) = lint([flow]).findings

    assert (found.path, found.line, found.column, found.rule.id) == (flow, 4, 15, "PF002")
    assert "requests.get (client.py:2) outside a task through fetch" in found.message


def test_modules_that_import_each_other_are_linted(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("from two import name\nname()\n")
    (tmp_path / "two.py").write_text("from one import name\nname()\n")

    report = lint([tmp_path])

    assert [*report.findings, *report.unreadable] == []


def network_rules(text: str, folder: Path) -> set[str]:
    (folder / "example.py").write_text(dedent(text))
    report = lint([folder])
    assert report.unreadable == []
    return {each.rule.id for each in report.findings} & {"PF002", "PF003", "PF004", "PF008"}
