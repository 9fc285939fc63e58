"""With the real weights of the package."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from affinage.engines import smollm2


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = tmp_path_factory.mktemp("cache")
    # What a killed process left behind: never taken for the base.
    (cache / "smollm2" / ".half").mkdir(parents=True)
    return cache


@pytest.fixture(scope="module")
def folder(cache: Path) -> Path:
    return smollm2.unpack(cache)


def test_it_is_unpacked_once_and_leaves_no_remains(folder: Path, cache: Path) -> None:
    files = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert smollm2.unpack(cache) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == files
    assert [path.name for path in folder.parent.iterdir() if path != folder] == [".half"]


def test_many_that_unpack_at_once_find_one_complete_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    barrier = threading.Barrier(4)

    def convert(source: Path, folder: Path) -> None:
        (folder / "model.safetensors").write_text("weights", encoding="utf-8")
        (folder / "config.json").write_text("{}", encoding="utf-8")
        barrier.wait()  # all have built before the first renames

    monkeypatch.setattr(smollm2, "_convert", convert)
    with ThreadPoolExecutor(4) as racers:
        found = set(racers.map(smollm2.unpack, [tmp_path] * 4))
    assert len(found) == 1
    assert list(found.pop().parent.iterdir()) == [next((tmp_path / "smollm2").iterdir())]


def test_a_failed_unpacking_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(source: Path, folder: Path) -> None:
        (folder / "model.safetensors").write_text("half", encoding="utf-8")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(smollm2, "_convert", fail)
    with pytest.raises(OSError, match="No space left"):
        smollm2.unpack(tmp_path)
    assert list((tmp_path / "smollm2").iterdir()) == []


def test_the_folder_says_what_it_holds(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config["max_position_embeddings"] == smollm2.CONTEXT_TOKENS
    assert smollm2.LICENCE == "Apache-2.0"
    assert "<|im_start|>" in (folder / "chat_template.jinja").read_text(encoding="utf-8")


def test_rotary_pairs_are_put_back_in_order() -> None:
    # One head of width 4, one input: GGUF stores the halves (0, 1) and (2, 3) of the pairs (0, 2) and (1, 3) side by side.
    stored = np.array([[0.0], [2.0], [1.0], [3.0]], dtype=np.float32)
    assert smollm2._unpermute(stored, 1)[:, 0].tolist() == [0, 1, 2, 3]


@pytest.mark.slow
def test_it_answers_a_simple_question(folder: Path) -> None:
    from affinage.engines.protocols import GenerationRequest, Message
    from affinage.engines.transformers import TransformersGenerator

    generator = TransformersGenerator(folder, base=smollm2.NAME, threads=1)
    asked = GenerationRequest((Message("user", "What is the capital of France?"),), max_tokens=16)
    assert "Paris" in generator.generate([asked])[0].text
