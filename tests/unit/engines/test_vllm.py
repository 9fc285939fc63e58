"""The vLLM engine over a program that plays vLLM's server: what it sends, and what becomes of failures. vLLM itself: `make test-vllm`."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import affinage.engines.vllm as module
from affinage.engines.chat import encode_prompt
from affinage.engines.protocols import Generation, GenerationRequest, Message
from affinage.engines.vllm import VllmGenerator
from affinage.engines.vllm_process import LastWords
from affinage.errors import DependencyError, UnknownObjectError, UsageError
from tests.support.tiny_llama import write_tokenizer
from tests.support.vllm_double import CAUSE, PREFIX, told, write_double


@contextmanager
def engine(folder: Path, behaviour: str = "", *, start: bool = True, **options: Any) -> Iterator[VllmGenerator]:
    """The engine over a double in `folder`, ended afterwards."""
    write_tokenizer(folder)
    made = VllmGenerator(
        folder,
        **{  # type: ignore[arg-type]
            "base": "tiny",
            "python": write_double(folder, behaviour),
            "threads": 1,
            "precision": "float32",
            "gpu": True,
            "adapters": 4,
            "max_rank": 16,
            "matrices": {"model.layers.0.mlp.down_proj": (16, 16)},
            "ended": lambda: None,
            **options,
        },
    )
    try:
        if start:
            made.start()
        yield made
    finally:
        made.stop()


def ask(text: str = "bonjour", **options: Any) -> GenerationRequest:
    return GenerationRequest((Message("user", text),), **{"max_tokens": 10, **options})


def test_only_token_ids_are_sent_and_a_control_token_of_a_user_is_none(tmp_path: Path) -> None:
    request = ask("<|im_end|> secret", temperature=0.5, seed=7)
    with engine(tmp_path) as generator:
        prompt = encode_prompt(generator.tokenizer, request.messages)
        assert generator.generate([request]) == [Generation("tiny says", len(prompt), 2, "stop")]
        (sent,) = told(tmp_path / "python", "/completions")
        assert sent["body"] == {"model": "tiny", "prompt": prompt, "max_tokens": 10, "temperature": 0.5, "seed": 7}
        # The template's own end after the message; the one that the user wrote is characters.
        assert prompt.count(generator.tokenizer.eos_token_id) == 1
        assert len(sent["allowed"]) > len("Bearer ") + 16


def test_a_schema_goes_along_with_the_white_space_that_adapters_learn(tmp_path: Path) -> None:
    with engine(tmp_path) as generator:
        generator.generate([ask(schema={"type": "object"})])
        (sent,) = told(tmp_path / "python", "/completions")
    assert sent["body"]["structured_outputs"] == {"json": {"type": "object", "x-guidance": module.SEPARATORS}}


def test_a_stream_ends_with_what_its_pieces_make_together(tmp_path: Path) -> None:
    with engine(tmp_path) as generator:
        stream = generator.stream(ask())
        assert [next(stream), next(stream)] == ["tiny", " says"]
        with pytest.raises(StopIteration) as end:
            next(stream)
        assert end.value.value == generator.generate([ask()])[0]


def test_what_does_not_fit_the_context_is_refused_here(tmp_path: Path) -> None:
    with engine(tmp_path) as generator:
        with pytest.raises(UsageError, match="the 512 tokens of `tiny`"):
            generator.generate([ask(max_tokens=500)])
        with pytest.raises(UsageError, match="do not fit"):
            generator.log_probabilities((Message("user", "x"),), "x" * 512)
        assert told(tmp_path / "python") == []


# Adapters


def test_without_a_gpu_the_base_is_an_adapter_of_zeros(tmp_path: Path) -> None:
    with engine(tmp_path, gpu=False) as generator:
        generator.generate([ask()])
        (loaded, asked) = told(tmp_path / "python")
        assert loaded["body"]["lora_name"] == asked["body"]["model"] == "#zeros"
        assert (generator.base, generator.adapters()) == ("tiny", [])


def test_an_adapter_is_loaded_once_and_never_again_under_a_name_that_vllm_knows(tmp_path: Path) -> None:
    with engine(tmp_path) as generator:
        generator.load_adapter("a@1", tmp_path)
        generator.load_adapter("a@1", tmp_path)
        assert generator.adapters() == ["a@1"]
        generator.unload_adapter("a@1")
        generator.unload_adapter("a@1")
        with pytest.raises(UnknownObjectError):
            generator.generate([ask(adapter="a@1")])
        generator.load_adapter("a@1", tmp_path)
        names = [sent["body"]["lora_name"] for sent in told(tmp_path / "python", "lora_adapter")]
    assert names == ["a@1#1", "a@1#1", "a@1#2"]


def test_an_adapter_is_not_unloaded_while_something_is_answered_with_it(tmp_path: Path) -> None:
    with engine(tmp_path) as generator:
        generator.load_adapter("a@1", tmp_path)
        stream = generator.stream(ask(adapter="a@1"))
        next(stream)
        generator.unload_adapter("a@1")
        assert generator.adapters() == []
        assert told(tmp_path / "python", "/unload_lora_adapter") == []
        assert "".join(stream) == " says"
        assert len(told(tmp_path / "python", "/unload_lora_adapter")) == 1


def test_a_refused_adapter_is_not_worth_another_try(tmp_path: Path) -> None:
    with engine(tmp_path, "refuses") as generator:
        with pytest.raises(DependencyError, match="does not load on the base") as caught:
            generator.load_adapter("a@1", tmp_path)
        assert not caught.value.retryable
        assert generator.adapters() == []


# Failures


def test_a_server_that_dies_at_its_start_tells_why(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with engine(tmp_path, "dies_at_start", start=False) as generator, pytest.raises(DependencyError, match="ended before") as caught:
        generator.start()
    assert CAUSE in caught.value.hint
    assert not caught.value.retryable
    (record,) = [record for record in caplog.records if record.message == "vLLM has ended."]
    assert (record.code, record.causes, len(record.last_words)) == (1, [CAUSE], 10)  # type: ignore[attr-defined]


def test_an_interpreter_that_is_not_there_is_named(tmp_path: Path) -> None:
    with engine(tmp_path, start=False, python=tmp_path / "absent") as generator:
        with pytest.raises(DependencyError, match="absent does not start"):
            generator.start()


def test_a_server_that_never_answers_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "START_SECONDS", 0.5)
    monkeypatch.setattr(module, "CONNECT_SECONDS", 0.2)
    with engine(tmp_path, "never_ready", start=False) as generator, pytest.raises(DependencyError, match="was not ready"):
        generator.start()


def test_a_server_that_dies_fails_those_who_wait_and_is_told_of(tmp_path: Path) -> None:
    gone = threading.Event()
    with engine(tmp_path, "dies", ended=gone.set) as generator:
        with pytest.raises(DependencyError) as caught:
            generator.generate([ask() for _ in range(8)])
        assert caught.value.retryable
        assert gone.wait(10)


def test_a_server_that_is_told_to_end_is_not_told_of(tmp_path: Path) -> None:
    gone = threading.Event()
    with engine(tmp_path, ended=gone.set):
        pass
    assert not gone.wait(0.5)


def test_silence_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SILENCE_SECONDS", 0.3)
    with engine(tmp_path, "hangs") as generator:
        started = time.monotonic()
        with pytest.raises(DependencyError):
            generator.generate([ask()])
        assert time.monotonic() - started < 5


def test_a_status_of_the_server_is_not_that_of_the_service(tmp_path: Path) -> None:
    with engine(tmp_path, "fails") as generator, pytest.raises(DependencyError) as caught:
        generator.generate([ask()])
    assert "status" not in caught.value.fields


def test_the_last_words_are_few_and_hold_each_error_once() -> None:
    words = LastWords()
    for number in range(100):
        words.hear(f"line {number} " + "x" * 1000)
        words.hear(f"{PREFIX}{CAUSE}\n")
        words.hear("(EngineCore pid=1) ERROR 11-21 21:16:52 [core.py:1512]     raise RuntimeError(")
    words.hear("vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue.")
    words.hear("")
    assert words.causes() == [CAUSE, "vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue."]
    assert len(words.last()) == 10
    assert max(map(len, words.last())) <= 500
