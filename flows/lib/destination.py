"""Where the ETL reads and writes: the platform or a local folder, chosen by the environment."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from lib import object_store, warehouse
from lib.delays import Delays
from lib.flight_days import PACKAGE_SOURCE
from lib.refusal import Refusal

OUTPUT_VARIABLE = "ETL_OUTPUT"


class Platform(BaseSettings):
    """Object store and PostgreSQL warehouse; each field is read from the variable of its name."""

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True)

    raw_bucket: str
    artifacts_bucket: str
    warehouse_host: str
    warehouse_port: int = 5432
    warehouse_database: str
    warehouse_user: str
    warehouse_password: SecretStr

    @property
    def source(self) -> str:
        return f"s3://{self.raw_bucket}"

    @property
    def warehouse(self) -> warehouse.Server:
        return warehouse.Server(
            self.warehouse_host,
            self.warehouse_port,
            self.warehouse_database,
            self.warehouse_user,
            self.warehouse_password,
        )

    def __str__(self) -> str:
        return (
            f"{self.source} to PostgreSQL {self.warehouse} and s3://{self.artifacts_bucket}"
            " (RAW_BUCKET is set)"
        )

    def store(self, day: dt.date, rows: Sequence[Delays]) -> str:
        """Write the Parquet object, then the rows, and return where both are.

        In this order the warehouse never has rows without their object. Raises NotYet and Refusal.
        """
        key = f"etl-daily/{day}.parquet"
        object_store.write(
            object_store.client(), self.artifacts_bucket, key, warehouse.to_parquet(rows)
        )
        warehouse.store_in_postgres(self.warehouse, day, rows)
        return f"{warehouse.TABLE} in {self.warehouse}, s3://{self.artifacts_bucket}/{key}"


@dataclass(frozen=True)
class LocalFolder:
    """A local folder with a SQLite file and Parquet files; the source is the installed package."""

    path: Path
    source: str = PACKAGE_SOURCE

    def __str__(self) -> str:
        return (
            f"{self.source} to SQLite and Parquet in {self.path}/"
            f" (RAW_BUCKET is not set; {OUTPUT_VARIABLE} selects another folder)"
        )

    def store(self, day: dt.date, rows: Sequence[Delays]) -> str:
        """Write the Parquet file, then the rows, and return where both are; raises Refusal."""
        database = self.path / "etl-daily.sqlite"
        parquet = self.path / "etl-daily" / f"{day}.parquet"
        try:
            parquet.parent.mkdir(parents=True, exist_ok=True)
            # A rename is atomic, so a reader never finds a partial file.
            unfinished = parquet.with_suffix(".unfinished")
            unfinished.write_bytes(warehouse.to_parquet(rows))
            unfinished.replace(parquet)
        except OSError as error:
            raise Refusal(
                f"Cannot write to the folder {self.path}: {error.strerror}.",
                next_step=f"{OUTPUT_VARIABLE}=FOLDER python flows/etl_daily.py",
            ) from error
        warehouse.store_in_sqlite(database, day, rows)
        return f"{warehouse.TABLE} in {database}, {parquet}"


Destination = Platform | LocalFolder


def from_environment() -> Destination:
    """Return the platform if its variables are set, or the local folder if none of them is.

    Raises Refusal, which names the variables, when only some are set or a value is invalid.
    """
    names = [name.upper() for name in Platform.model_fields]
    if not any(os.environ.get(name) for name in names):
        return LocalFolder(Path(os.environ.get(OUTPUT_VARIABLE) or "etl-output"))
    try:
        return Platform()
    except ValidationError as error:
        wrong = ", ".join(_variable(detail) for detail in error.errors())
        raise Refusal(
            "The environment variables for the object store and the warehouse are incomplete or"
            f" invalid: {wrong}.",
            next_step="set these variables, which job pods of the platform have, or unset all of"
            f" {', '.join(names)} to use a local folder",
        ) from None


def _variable(detail: ErrorDetails) -> str:
    name = str(detail["loc"][0]).upper()
    return f"{name} is missing" if detail["type"] == "missing" else f"{name}: {detail['msg']}"
