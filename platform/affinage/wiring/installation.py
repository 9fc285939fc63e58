"""One installation: settings, time and ids, the record of truth, files and metrics."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from affinage.blobs import BlobStore
from affinage.database.engine import Database
from affinage.settings import Settings
from affinage.telemetry import Metrics

# No library may call home: for users as well as for tests.
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "TOKENIZERS_PARALLELISM": "false",
}


def utc_now() -> datetime:
    """The present instant."""
    return datetime.now(UTC)


def random_id() -> str:
    """128 unguessable bits as 32 hexadecimal digits."""
    return uuid.uuid4().hex


class Installation:
    """What every other part of the wiring builds on.

    Parameters
    ----------
    settings
        Where state lives and what may be reached.
    now, new_id
        Replaced in tests.
    """

    def __init__(self, settings: Settings, *, now: Callable[[], datetime] = utc_now, new_id: Callable[[], str] = random_id) -> None:
        self.settings = settings
        self.now = now
        self.new_id = new_id
        for key, value in QUIET.items():
            os.environ.setdefault(key, value)

    @cached_property
    def database(self) -> Database:
        """The record of truth, at the newest schema."""
        url = self.settings.database_url
        database = Database(url.get_secret_value() if url else f"sqlite:///{self.settings.home / 'affinage.db'}")
        database.migrate()
        return database

    @cached_property
    def blobs(self) -> BlobStore:
        """Immutable files."""
        from affinage.blobs.folder import FolderBlobs
        from affinage.blobs.s3 import S3Blobs

        url = self.settings.blobs_url
        return S3Blobs(url, endpoint_url=self.settings.s3_endpoint_url) if url else FolderBlobs(self.settings.home / "blobs")

    @cached_property
    def metrics(self) -> Metrics:
        """The metrics of this process."""
        return Metrics()

    @property
    def threads(self) -> int:
        """Threads of one model session."""
        return self.settings.threads or len(os.sched_getaffinity(0))

    @property
    def state(self) -> Path:
        """Folder of the embedded installation."""
        return self.settings.home

    @property
    def flows(self) -> Path:
        """Folder of the Prefect flows: as set, else beside `platform/` in the checkout of an editable install."""
        return self.settings.flows or Path(__file__).resolve().parents[3] / "flows"

    def close(self) -> None:
        """Close what was opened."""
        if "database" in self.__dict__:
            self.database.close()
