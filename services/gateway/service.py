"""The gateway as an ASGI application: `uvicorn --factory service:create` in this folder, or any other server.

Thin on purpose: wiring builds everything from the settings. `affinage serve gateway` runs the same application with its
metrics port and an orderly end; use that unless a platform brings its own server.
"""

from __future__ import annotations

from starlette.applications import Starlette

from affinage.settings import load_settings
from affinage.telemetry import configure_logging
from affinage.wiring import Affinage


def create() -> Starlette:
    """The gateway of the installation that the environment names."""
    settings = load_settings()
    configure_logging(log_format=settings.log_format, level=settings.log_level)
    return Affinage(settings).gateway()
