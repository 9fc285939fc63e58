"""With the real weights of the package: the graph is only right if the vectors are those of the reference."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from affinage.engines.minilm import MAX_TOKENS, MiniLM, package_folder
from affinage.errors import UnknownObjectError

TEXTS = [
    "Comment renouveler ma carte d'identité ?",
    "How do I renew my passport?",
    "court",
    "",
    "Le dossier est déposé en mairie, puis instruit par le service de l'urbanisme. " * 8,
    "mot " * 600,
]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def minilm(cache: Path) -> MiniLM:
    return MiniLM(cache, threads=1)


def test_vectors_have_length_one_and_do_not_depend_on_the_batch(minilm: MiniLM) -> None:
    together = minilm.embed(TEXTS)
    assert together.shape == (len(TEXTS), minilm.dimensions)
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    for text, vector in zip(TEXTS, together, strict=True):
        np.testing.assert_allclose(minilm.embed([text])[0], vector, atol=1e-5)


def test_nothing_to_embed_gives_no_rows(minilm: MiniLM) -> None:
    assert minilm.embed([]).shape == (0, minilm.dimensions)


def test_tokens_are_counted_beyond_the_limit(minilm: MiniLM) -> None:
    # [CLS] word [SEP]: "word" is one piece.
    assert minilm.count_tokens("word") == 3
    assert minilm.count_tokens("") == 2
    assert minilm.count_tokens("word " * 600) == 602 > MAX_TOKENS


def test_a_text_beyond_the_limit_is_represented_by_its_beginning(minilm: MiniLM) -> None:
    longer, longest = minilm.embed(["mot " * 300, "mot " * 300 + "autre chose"])
    np.testing.assert_allclose(longer, longest, atol=1e-6)


def test_the_graph_is_built_once_and_left_without_remains(minilm: MiniLM, cache: Path) -> None:
    minilm.embed(["x"])
    files = {path: path.stat().st_mtime_ns for path in (cache / "minilm").iterdir()}
    MiniLM(cache, threads=1).embed(["x"])
    assert {path: path.stat().st_mtime_ns for path in (cache / "minilm").iterdir()} == files
    assert [path.suffix for path in files] == [".onnx"]


def test_two_that_build_at_once_both_answer(tmp_path: Path, minilm: MiniLM) -> None:
    vectors: list[np.ndarray] = []
    racers = [threading.Thread(target=lambda: vectors.append(MiniLM(tmp_path, threads=1).embed(["x"]))) for _ in range(2)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert len(vectors) == 2
    for vector in vectors:
        np.testing.assert_array_equal(vector, minilm.embed(["x"]))


def test_an_adapter_folder_without_files_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownObjectError, match=str(tmp_path)):
        _ = MiniLM(tmp_path, threads=1, adapter=tmp_path / "absent").fingerprint


def test_vectors_are_those_of_sentence_transformers_with_and_without_an_adapter(minilm: MiniLM, cache: Path, tmp_path: Path) -> None:
    import torch
    from peft import LoraConfig
    from sentence_transformers import SentenceTransformer

    reference = SentenceTransformer(str(package_folder()), device="cpu")
    reference.max_seq_length = MAX_TOKENS
    bare = minilm.embed(TEXTS)
    assert (bare * reference.encode(TEXTS, normalize_embeddings=True)).sum(axis=1).min() >= 0.99999
    torch.manual_seed(0)
    reference.add_adapter(
        LoraConfig(r=8, lora_alpha=16, target_modules=["query", "key", "value", "dense"], exclude_modules=["pooler.dense"])
    )
    for name, parameter in reference.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    reference[0].auto_model.save_pretrained(tmp_path)
    adapted = MiniLM(cache, threads=1, adapter=tmp_path)
    vectors = adapted.embed(TEXTS)
    assert (vectors * reference.encode(TEXTS, normalize_embeddings=True)).sum(axis=1).min() >= 0.99999
    assert (vectors * bare).sum(axis=1).max() < 0.999
    assert adapted.fingerprint != minilm.fingerprint
    assert adapted.fingerprint == MiniLM(cache, threads=2, adapter=tmp_path).fingerprint
