"""Every generator keeps the same promises: in this process, behind an HTTP endpoint, as a service of several pods, and over vLLM."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from affinage.engines.endpoint import Endpoint
from affinage.engines.pods import Pods
from affinage.engines.pool import GeneratorPool
from affinage.engines.protocols import GenerationRequest, Generator, Message
from affinage.engines.transformers import TransformersGenerator
from affinage.errors import UnknownObjectError
from tests.support.openai_server import serve_openai
from tests.support.services import Service, serve
from tests.support.tiny_llama import write_tiny_adapter, write_tiny_llama


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("tiny") / "base", head_size=32)


@pytest.fixture(scope="module")
def adapter_folders(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("adapters")
    return write_tiny_adapter(tiny, folder / "one", seed=1), write_tiny_adapter(tiny, folder / "two", seed=2)


@pytest.fixture(scope="module")
def service(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A pod."""
    folder = tmp_path_factory.mktemp("generator")
    with serve("generator", folder, AFFINAGE_GENERATOR_ENGINE=str(tiny), AFFINAGE_GENERATOR_PRECISION="float32") as running:
        yield running


VLLM = pytest.param("vllm", marks=[pytest.mark.vllm, pytest.mark.timeout(900)])


@pytest.fixture(params=["transformers", "endpoint", pytest.param("service", marks=pytest.mark.integration), VLLM])
def generator(request: pytest.FixtureRequest, tiny: Path) -> Iterator[Generator]:
    if request.param == "transformers":
        yield TransformersGenerator(tiny, base="tiny", threads=1, precision="float32")
    elif request.param in {"service", "vllm"}:
        pool = GeneratorPool("tiny", Pods(request.getfixturevalue(request.param).url))
        yield pool
        for adapter in pool.adapters():
            pool.unload_adapter(adapter)
    else:
        with serve_openai() as server:
            yield Endpoint(server.url, egress_hosts=["127.0.0.1"])


def ask(text: str, *, adapter: str | None = None, max_tokens: int = 12) -> GenerationRequest:
    return GenerationRequest((Message("user", text),), adapter=adapter, max_tokens=max_tokens)


def test_answers_come_in_the_order_of_the_requests(generator: Generator) -> None:
    asked = [ask("court"), ask("une question nettement plus longue que les autres"), ask("moyen, disons")]
    alone = [generator.generate([request])[0].text for request in asked]
    assert [generation.text for generation in generator.generate(asked)] == alone
    assert len(set(alone)) == 3


def test_no_request_gives_no_answer(generator: Generator) -> None:
    assert generator.generate([]) == []


def test_the_stream_gives_the_same_text(generator: Generator) -> None:
    request = ask("été, œuvre et 12 €")
    assert "".join(generator.stream(request)) == generator.generate([request])[0].text


def test_tokens_are_counted_and_a_cut_answer_says_so(generator: Generator) -> None:
    cut = generator.generate([ask("un deux trois quatre", max_tokens=2)])[0]
    assert (cut.output_tokens, cut.finish_reason) == (2, "length")
    assert cut.input_tokens > 0


def test_an_adapter_that_is_not_loaded_is_refused(generator: Generator, adapter_folders: tuple[Path, Path]) -> None:
    generator.load_adapter("tiny@11111111", adapter_folders[0])
    with pytest.raises(UnknownObjectError, match="tiny@99999999"):
        generator.generate([ask("bonjour", adapter="tiny@99999999")])
    with pytest.raises(UnknownObjectError):
        list(generator.stream(ask("bonjour", adapter="tiny@99999999")))


def test_adapters_are_chosen_for_each_request(generator: Generator, adapter_folders: tuple[Path, Path]) -> None:
    first, second = "assistant.a@11111111", "b@22222222"
    bare = generator.generate([ask("bonjour")])[0].text
    generator.load_adapter(first, adapter_folders[0])
    generator.load_adapter(second, adapter_folders[1])
    generator.load_adapter(first, adapter_folders[0])
    assert generator.adapters() == sorted([first, second])
    mixed = generator.generate([ask("bonjour", adapter=second), ask("bonjour"), ask("bonjour", adapter=first)])
    assert mixed[1].text == bare
    assert len({generation.text for generation in mixed}) == 3
    assert generator.generate([ask("bonjour", adapter=first)])[0].text == mixed[2].text


def test_an_unloaded_adapter_is_gone_and_the_others_stay(generator: Generator, adapter_folders: tuple[Path, Path]) -> None:
    bare = generator.generate([ask("bonjour")])[0].text
    generator.load_adapter("a@1", adapter_folders[0])
    generator.load_adapter("b@2", adapter_folders[1])
    with_second = generator.generate([ask("bonjour", adapter="b@2")])[0].text
    generator.unload_adapter("a@1")
    generator.unload_adapter("a@1")
    assert generator.adapters() == ["b@2"]
    assert generator.generate([ask("bonjour", adapter="b@2")])[0].text == with_second
    with pytest.raises(UnknownObjectError):
        generator.generate([ask("bonjour", adapter="a@1")])
    generator.unload_adapter("b@2")
    assert generator.adapters() == []
    assert generator.generate([ask("bonjour")])[0].text == bare
    generator.load_adapter("b@2", adapter_folders[1])
    assert generator.generate([ask("bonjour", adapter="b@2")])[0].text == with_second
