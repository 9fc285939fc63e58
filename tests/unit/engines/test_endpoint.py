from collections.abc import Iterator

import pytest

from affinage.engines.endpoint import Endpoint
from affinage.engines.protocols import GenerationRequest, Message
from affinage.errors import ConfigurationError, DependencyError
from tests.support.openai_server import OpenAIServer, serve_openai

SECRET = "le numéro de dossier est 4711"


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with serve_openai() as running:
        yield running


def ask(text: str = SECRET, **options: object) -> GenerationRequest:
    return GenerationRequest((Message("system", "Sois bref."), Message("user", text)), **options)  # type: ignore[arg-type]


def test_a_host_that_is_not_declared_is_refused_before_any_connection() -> None:
    with pytest.raises(ConfigurationError, match=r"169\.254\.169\.254"):
        Endpoint("http://169.254.169.254/v1", egress_hosts=["127.0.0.1"])


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/v1", "http://", "http://user@127.0.0.1/v1", "http://127.0.0.1/v1?key=1"])
def test_an_address_that_is_not_an_endpoint_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        Endpoint(url, egress_hosts=["127.0.0.1"])


def test_the_request_carries_decoding_schema_and_key(server: OpenAIServer) -> None:
    schema = {"type": "object"}
    endpoint = Endpoint(f"{server.url}#base", egress_hosts=["127.0.0.1"], api_key="k")
    endpoint.generate([ask(temperature=0.5, seed=3, max_tokens=9, schema=schema)])
    body = server.bodies[0]
    assert (body["model"], body["temperature"], body["seed"], body["max_tokens"]) == ("base", 0.5, 3, 9)
    assert body["messages"][0] == {"role": "system", "content": "Sois bref."}
    assert body["response_format"]["json_schema"]["schema"] == schema
    assert server.headers[0]["Authorization"] == "Bearer k"


@pytest.mark.parametrize(
    ("failure", "retryable"), [("500", True), ("400", False), ("302", False), ("not_json", False), ("no_choices", False)]
)
def test_a_failure_is_named_without_quoting_anybody(server: OpenAIServer, failure: str, retryable: bool) -> None:
    server.failure = failure
    with pytest.raises(DependencyError) as caught:
        Endpoint(server.url, egress_hosts=["127.0.0.1"]).generate([ask()])
    assert caught.value.retryable is retryable
    assert "4711" not in str(caught.value)


def test_a_server_that_says_nothing_is_given_up(server: OpenAIServer) -> None:
    server.failure = "slow"
    with pytest.raises(DependencyError) as caught:
        Endpoint(f"{server.url}#base", egress_hosts=["127.0.0.1"], read_seconds=0.1).generate([ask()])
    assert caught.value.retryable


def test_nobody_listening_is_retryable() -> None:
    with serve_openai() as gone:
        url = gone.url
    with pytest.raises(DependencyError) as caught:
        Endpoint(f"{url}#base", egress_hosts=["127.0.0.1"]).generate([ask()])
    assert caught.value.retryable


@pytest.mark.parametrize("failure", ["cut", "error_event"])
def test_a_stream_never_ends_in_silence(server: OpenAIServer, failure: str) -> None:
    server.failure = failure
    stream = Endpoint(server.url, egress_hosts=["127.0.0.1"]).stream(ask())
    assert next(stream) == "L"
    with pytest.raises(DependencyError):
        list(stream)


def test_a_reader_that_leaves_does_not_block_the_next(server: OpenAIServer) -> None:
    endpoint = Endpoint(server.url, egress_hosts=["127.0.0.1"])
    stream = endpoint.stream(ask())
    next(stream)
    stream.close()
    assert endpoint.generate([ask("encore")])[0].text == "ENCORE"
