"""The embedder keeps the same promises in this process, as our service and as any endpoint, and gives the same vectors."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from affinage.engines.endpoint_embedder import EndpointEmbedder
from affinage.engines.minilm import NAME, MiniLM
from affinage.engines.pods import Pods
from affinage.engines.protocols import Embedder
from affinage.engines.remote_embedder import RemoteEmbedder
from affinage.errors import DependencyError
from tests.support.embedding_endpoint import serve_embeddings
from tests.support.minilm_adapter import write_minilm_adapter
from tests.support.services import Service, serve

TEXTS = [
    "Comment renouveler ma carte d'identité ?",
    "How do I renew my passport?",
    "",
    "€ — œuvre \U0001f600",
    "Le dossier est déposé en mairie, puis instruit par le service de l'urbanisme. " * 8,
    "mot " * 600,
]
Make = Callable[[str | None], Embedder]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def adapter_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("adapters")
    return {f"guichet@{seed * 11111111}": write_minilm_adapter(folder / str(seed), seed=seed) for seed in (1, 2)}


@pytest.fixture(scope="module")
def service(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serve("embedder", tmp_path_factory.mktemp("embedder"), AFFINAGE_CACHE=str(cache)) as running:
        yield running


@pytest.fixture
def pods(service: Service) -> Iterator[Pods]:
    """The service with no adapter before and none after."""
    pods = Pods(service.url)
    yield pods
    for name in pods.adapters():
        pods.drop_adapter(name)


@pytest.fixture(params=["minilm", pytest.param("service", marks=pytest.mark.integration)])
def make(request: pytest.FixtureRequest, cache: Path, adapter_folders: dict[str, Path]) -> Iterator[Make]:
    """Makes an embedder, bare or with an adapter."""
    if request.param == "minilm":
        yield lambda adapter: MiniLM(cache, threads=1, adapter=adapter_folders[adapter] if adapter else None)
    else:
        pods = request.getfixturevalue("pods")
        yield lambda adapter: RemoteEmbedder(pods, adapter=adapter, files=(lambda: adapter_folders[adapter]) if adapter else None)


@pytest.fixture(
    params=[
        "minilm",
        pytest.param("service", marks=pytest.mark.integration),
        pytest.param("endpoint", marks=pytest.mark.integration),
        "any",
    ]
)
def embedder(request: pytest.FixtureRequest, cache: Path) -> Iterator[Embedder]:
    """Bare. The third asks our service as it would anybody's; the last one is a model that is not ours."""
    if request.param == "minilm":
        yield MiniLM(cache, threads=1)
    elif request.param == "service":
        yield RemoteEmbedder(request.getfixturevalue("pods"))
    elif request.param == "endpoint":
        yield endpoint(f"{request.getfixturevalue('service').url}/v1#{NAME}?max_tokens=4096")
    else:
        with serve_embeddings() as running:
            yield endpoint(running.url)


def endpoint(url: str) -> EndpointEmbedder:
    return EndpointEmbedder(url, egress_hosts=["127.0.0.1"], rng=np.random.default_rng(0))


def test_vectors_have_length_one_and_do_not_depend_on_the_batch(embedder: Embedder) -> None:
    together = embedder.embed(TEXTS)
    assert (together.shape, together.dtype) == ((len(TEXTS), embedder.dimensions), np.float32)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    for text, vector in zip(TEXTS, together, strict=True):
        np.testing.assert_allclose(embedder.embed([text])[0], vector, atol=1e-5)


def test_nothing_to_embed_gives_no_rows(embedder: Embedder) -> None:
    assert embedder.embed([]).shape == (0, embedder.dimensions)


def test_more_texts_than_a_batch_come_in_their_order(embedder: Embedder) -> None:
    texts = [f"phrase {i}" for i in range(70)]
    together = embedder.embed(texts)
    np.testing.assert_allclose(together[[0, 63, 64, 69]], embedder.embed([texts[i] for i in (0, 63, 64, 69)]), atol=1e-5)


def test_tokens_are_counted_beyond_the_limit(make: Make) -> None:
    embedder = make(None)
    # [CLS] word [SEP]: "word" is one piece.
    assert [embedder.count_tokens(text) for text in ("word", "", "word " * 600)] == [3, 2, 602]
    assert embedder.max_tokens == 256


def test_each_adapter_has_a_fingerprint_and_vectors_of_its_own(make: Make, adapter_folders: dict[str, Path]) -> None:
    embedders = [make(adapter) for adapter in (None, *adapter_folders)]
    assert len({embedder.fingerprint for embedder in embedders}) == 3
    vectors = [embedder.embed(["une question"])[0] for embedder in embedders]
    assert all(vectors[i] @ vectors[k] < 0.999 for i, k in ((0, 1), (0, 2), (1, 2)))
    assert embedders[1].fingerprint == make(next(iter(adapter_folders))).fingerprint


@pytest.mark.integration
@pytest.mark.parametrize("adapter", [None, "guichet@11111111"])
def test_the_service_gives_the_vectors_of_the_process(
    pods: Pods, cache: Path, adapter_folders: dict[str, Path], adapter: str | None
) -> None:
    folder = adapter_folders[adapter] if adapter else None
    here = MiniLM(cache, threads=1, adapter=folder)
    there = RemoteEmbedder(pods, adapter=adapter, files=(lambda: folder) if adapter else None)
    assert there.fingerprint == here.fingerprint
    np.testing.assert_allclose(there.embed(TEXTS), here.embed(TEXTS), atol=1e-6)


@pytest.mark.integration
def test_an_endpoint_gives_the_vectors_of_the_process(service: Service, cache: Path) -> None:
    there, here = endpoint(f"{service.url}/v1#{NAME}"), MiniLM(cache, threads=1)
    np.testing.assert_allclose(there.embed(TEXTS), here.embed(TEXTS), atol=1e-6)
    assert all(there.count_tokens(text) >= here.count_tokens(text) for text in TEXTS)
    # Only who digests weights may say so: the other one's index compares canaries.
    assert (there.weights_in_fingerprint, here.weights_in_fingerprint) == (False, True)


# What only the service can be asked


def ask(service: Service, method: str, path: str, body: object) -> tuple[int, dict[str, object]]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(service.url + path, data=data, method=method), timeout=30) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())["error"]


@pytest.mark.integration
def test_openai_clients_get_floats_and_base64_of_the_same_vectors(service: Service) -> None:
    from openai import OpenAI

    client = OpenAI(base_url=f"{service.url}/v1", api_key="none")
    floats = client.embeddings.create(model=NAME, input=["un", "deux"], encoding_format="float").data
    # The client asks for base64 unless told otherwise, and decodes it.
    exact = client.embeddings.create(model=NAME, input=["un", "deux"]).data
    assert np.float32([entry.embedding for entry in floats]).tobytes() == np.float32([entry.embedding for entry in exact]).tobytes()
    assert next(iter(client.models.list())).id == NAME


@pytest.mark.integration
@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        ("embeddings", {"model": "package:other", "input": "x"}, 404, "model"),
        ("embeddings", {"model": NAME, "input": []}, 400, "input"),
        ("embeddings", {"model": NAME, "input": ["x"] * 257}, 400, "input"),
        ("embeddings", {"model": NAME, "input": ["x" * 100_001]}, 400, "input.0"),
        ("embeddings", {"model": NAME, "input": [1]}, 400, "input.0"),
        ("embeddings", {"model": NAME, "input": "x", "dimensions": 64}, 400, "dimensions"),
        ("embeddings", {"input": "x"}, 400, "model"),
        ("embeddings", b"{", 400, None),
        ("embeddings", b'{"model": "package:minilm", "input": "' + b"x" * (8 << 20) + b'"}', 413, None),
        ("tokens", {"model": NAME, "input": None}, 400, "input"),
        ("nothing", {}, 404, None),
    ],
)
def test_a_wrong_request_is_refused_with_its_key(service: Service, path: str, body: object, status: int, param: str | None) -> None:
    found, error = ask(service, "POST", f"/v1/{path}", body)
    assert (found, set(error), error["param"]) == (status, {"message", "type", "code", "param"}, param)
    assert "xxxx" not in str(error)


@pytest.mark.integration
def test_an_adapter_for_another_model_is_refused_with_the_reason(pods: Pods, tmp_path: Path) -> None:
    folder = write_minilm_adapter(tmp_path / "narrow", seed=3, width=16)
    with pytest.raises(DependencyError, match=r"the base has \[384, 384\]"):
        pods.send_adapter("guichet@33333333", folder)
    assert pods.adapters() == []


@pytest.mark.integration
def test_there_is_room_for_a_few_adapters_and_the_next_one_is_told(pods: Pods, tmp_path: Path) -> None:
    names = [f"a@{i}" for i in range(5)]
    for i, name in enumerate(names[:4]):
        pods.send_adapter(name, write_minilm_adapter(tmp_path / name, seed=i))
    with pytest.raises(DependencyError, match="no room"):
        pods.send_adapter(names[4], write_minilm_adapter(tmp_path / "a@4", seed=4))
    for name in names:
        pods.drop_adapter(name)
    assert pods.adapters() == []


@pytest.mark.integration
def test_the_service_is_ready_and_its_metrics_are_bounded(service: Service) -> None:
    ask(service, "POST", "/v1/embeddings", {"model": NAME, "input": "x"})
    ask(service, "POST", "/v1/somebodys-typo", {})
    assert (service.status("/livez"), service.status("/readyz")) == (200, 200)
    with urllib.request.urlopen(f"{service.url}/metrics", timeout=30) as response:
        metrics = response.read().decode()
    assert 'affinage_embedder_requests_total{route="/v1/embeddings",status="200"}' in metrics
    assert "somebodys-typo" not in metrics
