"""Which calls use the network, and which of them wait forever without a timeout."""

import ast
import re
from functools import cache

_HTTP = "(get|post|put|patch|delete|head|options|request)"
_BOTO = r"(boto3|boto3\.(session\.)?Session\(\))"
# Methods of clients that compute something without a request.
_BOTO_LOCAL = (
    "get_paginator|get_waiter|generate_presigned_url|generate_presigned_post|can_paginate|close"
)
_BOTO_CLIENT = rf"({_BOTO}\.client\(\)|mypy_boto3_\w+(\.client)?\.\w+Client\(\))"
_BUCKET = (
    "(read_path|write_path|get_directory|put_directory|list_objects|list_blobs|stream_from"
    "|copy_object|move_object|upload_from_\\w+|download_\\w+_to_\\w+|get_bucket|create_bucket)"
)
_NETWORK = re.compile(
    "|".join(
        (
            rf"requests\.(api\.)?{_HTTP}",
            rf"requests\.(sessions\.)?[Ss]ession\(\)\.({_HTTP}|send)",
            rf"httpx\.({_HTTP}|stream)",
            rf"httpx\.(Async)?Client\(\)\.({_HTTP}|send|stream)",
            rf"aiohttp\.(client\.)?(request|ClientSession\(\)\.({_HTTP}|ws_connect))",
            r"urllib\.request\.(urlopen|urlretrieve)",
            r"urllib3\.(request|PoolManager\(\)\.(request|urlopen))",
            r"http\.client\.HTTPS?Connection\(\)\.(request|connect)",
            rf"{_BOTO_CLIENT}\.(?!({_BOTO_LOCAL})$)[a-z]\w*",
            rf"{_BOTO_CLIENT}\.get_(paginator\(\)\.paginate|waiter\(\)\.wait)",
            rf"{_BOTO}\.resource\(\)(\.[A-Z]\w*\(\))+(\.[a-z]\w*)+",
            r"google\.cloud\.storage\.Client\(\)\.(get_bucket|list_\w+|create_bucket)",
            r"google\.cloud\.storage\.Client\(\)\.(get_)?bucket\(\)\.(get_)?blob\(\)"
            r"\.(upload_\w+|download_\w+|delete|exists|reload)",
            r"google\.cloud\.bigquery\.Client\(\)"
            r"\.(query\w*|load_table_\w+|insert_rows\w*|(get|list|create|delete|update)_\w+)",
            r"(psycopg2?|pymysql|MySQLdb|mysql\.connector|oracledb|pyodbc|pymssql|trino\.dbapi"
            r"|snowflake\.connector|clickhouse_driver|psycopg\.(Async)?Connection)\.connect",
            r"asyncpg\.(connect|create_pool)",
            r"aiomysql\.(connect|create_pool)",
            r"clickhouse_connect\.get_client",
            r"sqlalchemy\.create_engine\(\)\.(connect|begin|raw_connection)",
            r"redis\.(asyncio\.)?(Redis|StrictRedis)(\.from_url)?\(\)"
            r"\.(?!(pipeline|lock|pubsub|close|aclose)$)[a-z]\w*",
            r"smtplib\.SMTP(_SSL)?\(\)\.(send_message|sendmail)",
            r"ftplib\.FTP(_TLS)?\(\)\.(connect|login|retr\w+|stor\w+|nlst|dir|delete)",
            r"paramiko\.(client\.)?SSHClient\(\)\.connect",
            r"socket\.create_connection",
            r"kubernetes\.client\.\w+Api\(\)\.[a-z]\w+",
            rf"prefect_aws\.(s3\.)?S3Bucket(\.load)?\(\)\.{_BUCKET}",
            rf"prefect_gcp\.(cloud_storage\.)?GcsBucket(\.load)?\(\)\.{_BUCKET}",
            r"prefect_sqlalchemy\.(database\.)?SqlAlchemyConnector(\.load)?\(\)"
            r"\.(fetch_\w+|execute\w*|get_connection)",
        )
    )
)
_READS_ADDRESS = re.compile(r"(pandas|polars)\.read_\w+")
_ADDRESS = re.compile(r"(https?|s3a?|gs|gcs|ftp|abfss?)://")

# The position of the argument `timeout`, None if it can only be given by name.
_WAIT_FOR_EVER = (
    (re.compile(rf"requests\.((api\.)?|(sessions\.)?[Ss]ession\(\)\.){_HTTP}"), "timeout", None),
    (re.compile(r"urllib\.request\.urlopen"), "timeout", 2),
    (re.compile(r"http\.client\.HTTPS?Connection"), "timeout", 2),
    (
        re.compile(r"psycopg2?\.connect|psycopg\.(Async)?Connection\.connect"),
        "connect_timeout",
        None,
    ),
)
_HAVE_A_TIMEOUT = re.compile(
    rf"httpx\.({_HTTP}|stream|(Async)?Client(\(\)\.({_HTTP}|stream))?)"
    rf"|aiohttp\.(ClientSession(\(\)\.{_HTTP})?|request)"
)


@cache
def uses_network(path: str) -> bool:
    """Return whether a call of `path` sends something over the network."""
    return _NETWORK.fullmatch(path) is not None


@cache
def reads_address(path: str) -> bool:
    """Return whether a call of `path` uses the network if its first argument is an address."""
    return _READS_ADDRESS.fullmatch(path) is not None


def is_address(value: object) -> bool:
    """Return whether a literal is the address of something on the network."""
    return isinstance(value, str) and _ADDRESS.match(value) is not None


def timeout_of(path: str) -> tuple[str, int | None] | None:
    """Return the name and position of the argument without which `path` waits forever."""
    for pattern, name, position in _WAIT_FOR_EVER:
        if pattern.fullmatch(path):
            return name, position
    return None


def takes_timeout_away(path: str, call: ast.Call) -> bool:
    """Return whether `call` disables the timeout that the client has by default."""
    return _HAVE_A_TIMEOUT.fullmatch(path) is not None and any(
        each.arg == "timeout" and isinstance(each.value, ast.Constant) and each.value.value is None
        for each in call.keywords
    )


def readable(path: str) -> str:
    """Return `path` as a person writes it: without the calls that made the client."""
    return path.replace("()", "")
