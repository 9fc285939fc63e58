"""Several real HTTP servers behind one name: who is asked, and what happens when one of them fails."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest

from affinage.engines.pods import REFRESH_SECONDS, STALE_SECONDS, Address, Pods
from affinage.engines.pool import GeneratorPool
from affinage.engines.protocols import GenerationRequest, Message
from affinage.errors import ConfigurationError, DependencyError, RefusedError, UnknownObjectError
from tests.support.openai_server import OpenAIServer, serve_openai

ADAPTER = "guichet@11111111"


class Fleet:
    """Two servers behind one name."""

    def __init__(self, servers: list[OpenAIServer]) -> None:
        self.servers = servers
        self.addresses = [address_of(server) for server in servers]
        self.now = 0.0
        self.pods = self.look()
        self.pool = GeneratorPool("base", self.pods)

    def look(self, **options: float) -> Pods:
        return Pods("http://pods:1", resolver=lambda _host, _port: list(self.addresses), monotonic=lambda: self.now, **options)  # type: ignore[arg-type]

    @property
    def asked(self) -> list[int]:
        return [len(server.bodies) for server in self.servers]


def address_of(server: OpenAIServer) -> Address:
    parts = urlsplit(server.url)
    return str(parts.hostname), int(parts.port or 0)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def fleet(stack: ExitStack) -> Fleet:
    return Fleet([stack.enter_context(serve_openai()) for _ in range(2)])


def ask(adapter: str | None = None) -> GenerationRequest:
    return GenerationRequest((Message("user", "bonjour"),), adapter=adapter)


def test_requests_go_round_the_pods(fleet: Fleet) -> None:
    for _ in range(6):
        assert fleet.pool.generate([ask()])[0].text == "BONJOUR"
    assert fleet.asked == [3, 3]


def test_the_pod_with_the_least_in_flight_is_asked(fleet: Fleet) -> None:
    busy = fleet.pods.ready()[0]
    with fleet.pods.busy(busy):
        fleet.pool.generate([ask(), ask()][:1])
        fleet.pool.generate([ask()])
    assert sorted(fleet.asked) == [0, 2]
    assert busy.inflight == 0


def test_a_pod_that_dies_between_two_requests_is_replaced_by_another(stack: ExitStack) -> None:
    first = serve_openai()
    fleet = Fleet([first.__enter__(), stack.enter_context(serve_openai())])
    fleet.pool.generate([ask()] * 4)
    first.__exit__(None, None, None)
    before = fleet.asked[1]
    assert [fleet.pool.generate([ask()])[0].text for _ in range(4)] == ["BONJOUR"] * 4
    assert "".join(fleet.pool.stream(ask())) == "BONJOUR"
    assert fleet.asked[1] == before + 5


def test_an_adapter_is_asked_only_of_pods_that_have_it(fleet: Fleet) -> None:
    fleet.servers[1].adapters[ADAPTER] = "here"
    assert [fleet.pool.generate([ask(ADAPTER)])[0].text for _ in range(3)] == [f"{ADAPTER}: BONJOUR"] * 3
    assert fleet.asked == [0, 3]
    # Enough to answer, not yet everywhere.
    assert fleet.pool.serves(ADAPTER)
    assert fleet.pool.adapters() == []


def test_an_adapter_that_a_pod_lost_is_asked_of_another_and_never_answered_by_the_base(fleet: Fleet) -> None:
    for server in fleet.servers:
        server.adapters[ADAPTER] = "here"
    assert fleet.pool.adapters() == [ADAPTER]
    fleet.servers[0].adapters.clear()  # started again
    assert {fleet.pool.generate([ask(ADAPTER)])[0].text for _ in range(4)} == {f"{ADAPTER}: BONJOUR"}
    fleet.servers[1].adapters.clear()
    with pytest.raises(UnknownObjectError, match=ADAPTER):
        fleet.pool.generate([ask(ADAPTER)])
    with pytest.raises(UnknownObjectError, match=ADAPTER):
        list(fleet.pool.stream(ask(ADAPTER)))


def test_an_overloaded_pod_is_passed_over_before_the_first_byte(fleet: Fleet) -> None:
    fleet.servers[0].failure = "503"
    assert {fleet.pool.generate([ask()])[0].text for _ in range(4)} == {"BONJOUR"}
    assert {"".join(fleet.pool.stream(ask())) for _ in range(4)} == {"BONJOUR"}
    fleet.servers[1].failure = "503"
    with pytest.raises(DependencyError) as caught:
        fleet.pool.generate([ask()])
    assert caught.value.retryable


@pytest.mark.parametrize("failure", ["cut", "error_event"])
def test_a_stream_that_breaks_off_is_an_error_and_is_not_repeated(fleet: Fleet, failure: str) -> None:
    for server in fleet.servers:
        server.failure = failure
    stream = fleet.pool.stream(ask())
    assert next(stream) == "B"
    with pytest.raises(DependencyError):
        list(stream)
    assert sum(fleet.asked) == 1


def test_a_pod_that_is_late_is_not_asked_twice(fleet: Fleet) -> None:
    for server in fleet.servers:
        server.failure = "slow"
    pool = GeneratorPool("base", fleet.look(read_seconds=0.2))
    with pytest.raises(DependencyError) as caught:
        pool.generate([ask()])
    assert caught.value.retryable
    assert sum(fleet.asked) == 1


@pytest.mark.parametrize(("failure", "retryable"), [("500", True), ("400", False), ("not_json", False)])
def test_a_refusal_is_the_answer_and_quotes_nobody(fleet: Fleet, failure: str, retryable: bool) -> None:
    for server in fleet.servers:
        server.failure = failure
    with pytest.raises(DependencyError) as caught:
        fleet.pool.generate([ask()])
    assert (caught.value.retryable, sum(fleet.asked)) == (retryable, 1)
    assert "bonjour" not in str(caught.value).lower()


def test_every_pod_is_asked_for_the_proof_and_they_must_agree(fleet: Fleet) -> None:
    messages = [Message("user", "bonjour")]
    assert fleet.pool.log_probabilities(messages, "x") == [-0.5, -1.5]
    assert fleet.asked == [1, 1]
    fleet.servers[1].log_probabilities = [-0.6, -1.6]
    with pytest.raises(RefusedError, match="do not agree"):
        fleet.pool.log_probabilities(messages, "x")
    fleet.servers[1].log_probabilities = [float("nan"), -1.5]
    with pytest.raises(RefusedError):
        fleet.pool.log_probabilities(messages, "x")
    with pytest.raises(UnknownObjectError, match=ADAPTER):
        fleet.pool.log_probabilities(messages, "x", adapter=ADAPTER)


def test_a_pod_with_another_base_is_left_out(fleet: Fleet) -> None:
    fleet.servers[1].digest = "d2"
    assert fleet.pool.base_digest == "d1"
    fleet.pool.generate([ask()] * 3)
    assert fleet.asked == [3, 0]
    expecting = Pods("http://pods:1", digest="d3", resolver=lambda _host, _port: fleet.addresses)
    with pytest.raises(DependencyError, match="No pod"):
        GeneratorPool("base", expecting).generate([ask()])


def test_a_pod_that_joins_is_seen_after_a_while(stack: ExitStack) -> None:
    fleet = Fleet([stack.enter_context(serve_openai()) for _ in range(2)])
    fleet.addresses.pop()
    fleet.pool.generate([ask()] * 2)
    fleet.addresses.append(address_of(fleet.servers[1]))
    fleet.pool.generate([ask()] * 2)
    assert fleet.asked == [4, 0]
    fleet.now += STALE_SECONDS + 1
    fleet.pool.generate([ask()] * 2)
    assert fleet.asked[1] >= 1


def test_an_ageing_picture_is_renewed_while_it_serves(fleet: Fleet) -> None:
    fleet.pool.generate([ask()])
    fleet.servers[0].adapters[ADAPTER] = fleet.servers[1].adapters[ADAPTER] = "here"
    fleet.now += REFRESH_SECONDS + 1
    until = time.monotonic() + 10
    while fleet.pool.adapters() != [ADAPTER] and time.monotonic() < until:
        time.sleep(0.01)
    assert fleet.pool.adapters() == [ADAPTER]


def test_a_name_server_that_fails_does_not_take_the_pods_away(fleet: Fleet) -> None:
    def resolver(_host: str, _port: int) -> list[Address]:
        if fleet.now:
            raise DependencyError("engine", "no name server")
        return fleet.addresses

    pool = GeneratorPool("base", Pods("http://pods:1", resolver=resolver, monotonic=lambda: fleet.now))
    pool.generate([ask()])
    fleet.now = STALE_SECONDS + 1
    assert pool.generate([ask()])[0].text == "BONJOUR"


def test_nobody_there_is_retryable(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_args: object, **_options: object) -> None:
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(DependencyError) as caught:
        GeneratorPool("base", Pods("http://pods:1")).generate([ask()])
    assert caught.value.retryable
    with pytest.raises(DependencyError) as caught:
        GeneratorPool("base", Pods("http://pods:1", resolver=lambda _host, _port: [])).adapters()
    assert caught.value.retryable


@pytest.mark.parametrize("url", ["https://gen:3000", "gen:3000", "http://gen:3000/v1", "http://u@gen", "http://gen#m", "http://"])
def test_an_address_that_is_not_a_service_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        Pods(url)
