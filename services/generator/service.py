"""The generator as a BentoML service: `bentoml serve service:Generator` in this folder.

Thin on purpose: wiring builds everything from the settings. BentoML imports this file in its supervisor and in its worker;
only the worker makes an instance, and only an instance loads weights.
"""

from __future__ import annotations

import bentoml

from affinage.processes import end_with_supervisor, note_supervisor
from affinage.settings import load_settings
from affinage.telemetry import configure_logging
from affinage.wiring.services import generator_service

note_supervisor()
settings = load_settings()
configure_logging(log_format=settings.log_format, level=settings.log_level)
service = generator_service(settings)


# One worker: the engine is in its memory. BentoML's own metrics have the request's path as a label, and so a series for each
# adapter and each mistyped address; ours at the same /metrics are bounded.
@bentoml.service(name="generator", workers=1, metrics={"enabled": False}, logging={"access": {"enabled": False}}, traffic={"timeout": 660})
@bentoml.asgi_app(service.app())
class Generator:
    """Starts the engine, and says when it is ready."""

    def __init__(self) -> None:
        end_with_supervisor()
        service.start()

    def __is_ready__(self) -> bool:
        return service.ready
