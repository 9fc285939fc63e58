"""What the client of Weaviate says before and without a server."""

import pytest

from affinage.errors import ConfigurationError, DependencyError
from affinage.index.stores.weaviate import WeaviateStore


@pytest.mark.parametrize("url", ["weaviate:8080", "ftp://weaviate", "http://", "http://weaviate:8080/v1"])
def test_what_is_no_address_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(ConfigurationError, match="http://HOST:PORT"):
        WeaviateStore(url)


def test_a_server_that_is_down_is_a_dependency_error_that_names_the_setting() -> None:
    with pytest.raises(DependencyError, match="vectors_url") as raised:
        WeaviateStore("http://127.0.0.1:9", grpc_port=10).count("g1")
    assert raised.value.retryable


def test_one_port_for_both_protocols_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="vectors_grpc_port"):
        WeaviateStore("http://127.0.0.1:50051", grpc_port=50051)
