from pathlib import Path

import pytest

import affinage.engines.transformers as module
from affinage.engines.protocols import GenerationRequest, Message
from affinage.engines.transformers import TransformersGenerator
from affinage.errors import DependencyError, UnknownObjectError, UsageError
from tests.support.tiny_llama import CONTEXT_TOKENS, write_tiny_adapter, write_tiny_llama


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("tiny") / "base")


@pytest.fixture(scope="module")
def generator(tiny: Path) -> TransformersGenerator:
    return TransformersGenerator(tiny, base="tiny", threads=1, precision="float32")


def ask(text: str, **options: object) -> GenerationRequest:
    return GenerationRequest((Message("user", text),), **{"max_tokens": 10, **options})  # type: ignore[arg-type]


def test_small_batches_give_what_a_large_one_gives(generator: TransformersGenerator, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [ask("Lis cet appel : " + "mot " * n, max_tokens=3 + n) for n in range(7)]
    together = generator.generate(asked)
    monkeypatch.setattr(module, "MAX_BATCH_ROWS", 2)
    assert generator.generate(asked) == together
    monkeypatch.setattr(module, "MAX_BATCH_ROWS", 32)
    monkeypatch.setattr(module, "MAX_BATCH_TOKENS", 1)
    assert generator.generate(asked) == together


def test_sampling_depends_on_the_seed_and_not_on_the_neighbours(generator: TransformersGenerator) -> None:
    first, second = (ask("bonjour", temperature=1.0, seed=seed) for seed in (1, 2))
    together = generator.generate([first, second, first])
    assert together[0] == together[2]
    assert together[0].text != together[1].text
    assert generator.generate([first])[0] == together[0]


def test_log_probabilities_are_those_of_the_greedy_choice(generator: TransformersGenerator) -> None:
    greedy = generator.generate([ask("bonjour", max_tokens=4)])[0].text
    messages = (Message("user", "bonjour"),)
    values = generator.log_probabilities(messages, greedy)
    other = generator.log_probabilities(messages, "zzzz")
    # One for each byte, and one for the end token.
    assert len(values) == len(greedy.encode()) + 1
    assert values[0] > other[0]
    assert all(value <= 0 for value in values)


def test_log_probabilities_tell_an_adapter_from_the_base(generator: TransformersGenerator, tiny: Path, tmp_path: Path) -> None:
    messages = (Message("user", "bonjour"),)
    bare = generator.log_probabilities(messages, "oui")
    generator.load_adapter("a@1", write_tiny_adapter(tiny, tmp_path, seed=1))
    assert generator.log_probabilities(messages, "oui", adapter="a@1") != bare
    assert generator.log_probabilities(messages, "oui") == bare
    with pytest.raises(UnknownObjectError):
        generator.log_probabilities(messages, "oui", adapter="b@2")
    generator.unload_adapter("a@1")


def test_a_stream_ends_with_what_its_pieces_make_together(generator: TransformersGenerator) -> None:
    stream, pieces = generator.stream(ask("été", max_tokens=6)), []
    while True:
        try:
            pieces.append(next(stream))
        except StopIteration as end:
            whole = end.value
            break
    assert whole == generator.generate([ask("été", max_tokens=6)])[0]
    assert "".join(pieces) == whole.text


def test_log_probabilities_beyond_the_context_are_refused(generator: TransformersGenerator) -> None:
    with pytest.raises(UsageError, match="do not fit"):
        generator.log_probabilities((Message("user", "x"),), "x" * CONTEXT_TOKENS)


def test_a_prompt_beyond_the_context_is_refused(generator: TransformersGenerator) -> None:
    with pytest.raises(UsageError, match=str(CONTEXT_TOKENS)):
        generator.generate([ask("x" * CONTEXT_TOKENS)])


def test_an_adapter_of_another_base_is_refused_and_the_engine_goes_on(generator: TransformersGenerator, tmp_path: Path) -> None:
    from tests.support.adapters import write_adapter

    before = generator.generate([ask("bonjour")])
    with pytest.raises(DependencyError, match="b@3"):
        generator.load_adapter("b@3", write_adapter(tmp_path, config={"task_type": "CAUSAL_LM"}))
    with pytest.raises(UnknownObjectError):
        generator.load_adapter("b@4", tmp_path / "absent")
    assert generator.adapters() == []
    assert generator.generate([ask("bonjour")]) == before


def test_a_folder_that_is_not_a_base_is_named(tmp_path: Path) -> None:
    with pytest.raises(DependencyError, match=str(tmp_path)):
        TransformersGenerator(tmp_path, base="none", threads=1).generate([ask("bonjour")])


def test_a_row_that_is_to_be_json_ends_early_and_its_neighbour_does_not(
    generator: TransformersGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The text of random weights is nobody's object: what counts as its end is set here, what the engine does with it is not.
    monkeypatch.setattr(module, "object_is_over", lambda _text, tokens: tokens == 3)
    json_one, text_one = generator.generate([ask("bonjour", schema={"type": "object"}), ask("bonjour")])
    assert (json_one.output_tokens, json_one.finish_reason) == (3, "stop")
    assert text_one.output_tokens > 3
    assert text_one.text.startswith(json_one.text)
