"""`affinage serve gateway`, `affinage serve controller` and `affinage up`."""

from __future__ import annotations

import getpass
import os
import sys
from contextlib import nullcontext
from typing import Annotated

import typer

from affinage.cli.context import installation
from affinage.cli.output import note

serve = typer.Typer(no_args_is_help=True, help="Long-running processes.\n\nExample: affinage serve gateway --port 8400")
Host = Annotated[str, typer.Option("--host", help="Address to listen on; default: the setting `gateway_host`, 127.0.0.1.")]
Port = Annotated[int, typer.Option("--port", min=-1, max=65535, help="Port; 0 takes a free one; default: the setting `gateway_port`.")]
MetricsPort = Annotated[int, typer.Option("--metrics-port", min=-1, max=65535, help="Port of /metrics; default: `metrics_port`.")]
UNSET = -1


@serve.command("gateway")
def gateway(host: Host = "", port: Port = UNSET, metrics_port: MetricsPort = UNSET) -> None:
    """Serve the HTTP API until SIGTERM or SIGINT; ends when nothing is in flight.

    Example: affinage serve gateway --port 8400 --metrics-port 8401
    """
    _run(host=host, port=port, metrics_port=metrics_port, console=False, user="", groups="")


@serve.command("controller")
def controller(host: Host = "", metrics_port: MetricsPort = UNSET) -> None:
    """Follow MLflow's aliases, start experiments and look at their evidence, until SIGTERM or SIGINT.

    Several may run: one leads, the others wait for it to end. /health/live, /health/ready and /metrics are on one port.

    Example: affinage serve controller --metrics-port 8402
    """
    from affinage.serving.controller import run_controller

    with installation() as app:
        settings = app.settings
        run_controller(
            app.controller(),
            host=host or settings.gateway_host,
            port=settings.metrics_port if metrics_port == UNSET else metrics_port,
            started=lambda url: note(f"The controller's health and metrics are on {url}."),
        )
    _end_now()


def up(
    host: Host = "",
    port: Port = UNSET,
    metrics_port: MetricsPort = UNSET,
    as_user: Annotated[str, typer.Option("--as", help="Who the printed link signs in; default: you.")] = "",
    groups: Annotated[str, typer.Option("--groups", help="Further groups of that user, comma-separated.")] = "",
) -> None:
    """Serve the HTTP API and the console with the controller beside them, and print a link that signs in once.

    Example: affinage up --port 8400
    """
    _run(host=host, port=port, metrics_port=metrics_port, console=True, user=as_user or getpass.getuser(), groups=groups)


def _run(*, host: str, port: int, metrics_port: int, console: bool, user: str, groups: str) -> None:
    from affinage.serving.controller import controlling
    from affinage.serving.server import run_gateway

    with installation() as app:
        settings = app.settings
        asgi = app.gateway(console=console)
        members = tuple(name for name in (part.strip() for part in groups.split(",")) if name)

        def started(url: str, metrics_url: str) -> None:
            note(f"The gateway listens on {url} and its metrics on {metrics_url}.")
            if console:
                token = app.sessions.invite(user, groups=members)
                note(f"Sign in as {user}, once, within 15 minutes:")
                typer.echo(f"{url}/login?token={token}")

        with controlling(app.controller()) if console else nullcontext():
            run_gateway(
                asgi,
                host=host or settings.gateway_host,
                port=settings.gateway_port if port == UNSET else port,
                metrics_port=settings.metrics_port if metrics_port == UNSET else metrics_port,
                started=started,
            )
    _end_now()


def _end_now() -> None:
    # Everything is closed and on disk. Taking down an interpreter that holds model libraries takes up to ten seconds on a
    # busy machine, and whoever sent the signal waits for five.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
