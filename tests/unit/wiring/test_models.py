"""Which engine a name leads to: in this process, or at a service that the settings name."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from affinage.engines.endpoint_embedder import EndpointEmbedder
from affinage.engines.minilm import NAME, MiniLM
from affinage.engines.pool import GeneratorPool
from affinage.engines.remote_embedder import RemoteEmbedder
from affinage.engines.transformers import TransformersGenerator
from affinage.errors import ConfigurationError, DependencyError
from affinage.registry.bases import describe_base, register_base
from affinage.settings import Settings
from affinage.wiring import Affinage
from tests.support.adapters import write_base
from tests.support.openai_server import OpenAIServer, serve_openai


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with serve_openai() as running:
        yield running


def service_of(server: OpenAIServer) -> str:
    return f"http://{urlsplit(server.url).netloc}"


def test_the_embedder_is_in_process_unless_a_service_is_named(tmp_path: Path) -> None:
    assert isinstance(Affinage(Settings(home=tmp_path)).embedder(), MiniLM)
    app = Affinage(Settings(home=tmp_path, embedder_url="http://embedder:3000"))
    assert isinstance(app.embedder(), RemoteEmbedder)
    assert app.embedder() is app.embedder({"name": NAME, "adapter": None})
    assert app.embedder() is not app.embedder({"name": NAME, "adapter": "a@1"})


def test_an_endpoint_is_an_embedder_by_its_url(tmp_path: Path) -> None:
    app = Affinage(Settings(home=tmp_path, embedder_url="http://embedder:3000"))
    made = app.embedder({"name": "http://localhost/v1#m", "adapter": None})
    assert isinstance(made, EndpointEmbedder)
    assert made is app.embedder({"name": "http://localhost/v1#m", "adapter": None})
    assert made is not app.embedder({"name": "http://localhost/v1#n", "adapter": None})
    with pytest.raises(ConfigurationError, match="may be reached"):
        app.embedder({"name": "http://elsewhere/v1#m"})
    with pytest.raises(ConfigurationError, match="no adapter"):
        app.embedder({"name": "http://localhost/v1#m", "adapter": "a@1"})
    with pytest.raises(ConfigurationError, match="no embedder"):
        app.embedder({"name": "package:other"})


def test_a_service_of_an_embedder_needs_an_address(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        Affinage(Settings(home=tmp_path, embedder_url="embedder:3000")).embedder()


def test_a_mapped_engine_needs_no_weights_here(tmp_path: Path, server: OpenAIServer) -> None:
    app = Affinage(Settings(home=tmp_path, cache=tmp_path / "cache", generators=(f"package:smollm2={service_of(server)}",)))
    assert isinstance(app.generator("package:smollm2"), GeneratorPool)
    assert app.base_digest("package:smollm2") == "d1"
    assert not (tmp_path / "cache").exists()


def test_a_mapped_engine_must_hold_the_base_that_is_registered(tmp_path: Path, server: OpenAIServer) -> None:
    app = Affinage(Settings(home=tmp_path, generators=(f"tiny={service_of(server)}",)))
    described = describe_base(write_base(tmp_path / "tiny"), name="tiny", digest="d2", licence=None)
    register_base(app.database, None, described, now=lambda: datetime(2026, 3, 2, tzinfo=UTC))
    with pytest.raises(DependencyError, match="No pod"):
        app.base_digest("tiny")
    server.digest = "d2"
    assert app.base_digest("tiny") == "d2"


def test_what_is_on_trial_is_judged_in_this_process_and_sent_to_no_pod(tmp_path: Path, server: OpenAIServer) -> None:
    url = service_of(server)
    app = Affinage(Settings(home=tmp_path, embedder_url=url, generators=(f"tiny={url}",)))
    described = describe_base(write_base(tmp_path / "tiny"), name="tiny", digest="d1", licence=None)
    register_base(app.database, None, described, now=lambda: datetime(2026, 3, 2, tzinfo=UTC))
    assert isinstance(app.served_generator("tiny"), GeneratorPool)
    assert isinstance(app.trial_generator("tiny"), TransformersGenerator)
    assert isinstance(app.embedder({"name": NAME, "adapter": "a@1"}), RemoteEmbedder)
    assert isinstance(app.embedder({"name": NAME, "adapter": "a@1", "folder": tmp_path}), MiniLM)
