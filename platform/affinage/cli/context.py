"""One installation for one command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from affinage.settings import load_settings
from affinage.telemetry import configure_logging
from affinage.wiring import Affinage


@contextmanager
def installation() -> Iterator[Affinage]:
    """The installation that the environment names; closed when the command ends."""
    settings = load_settings()
    configure_logging(log_format=settings.log_format, level=settings.log_level)
    app = Affinage(settings)
    try:
        yield app
    finally:
        app.close()
