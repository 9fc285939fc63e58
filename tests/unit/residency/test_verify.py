"""Verification of adapter files: the sound one passes, each tampered one is refused with its reason."""

from __future__ import annotations

import contextlib
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from affinage.engines.tensors import base_shapes_of, read_header
from affinage.errors import RefusedError
from affinage.registry.adapter_files import CONFIG, WEIGHTS, adapter_digest
from affinage.residency.verify import verify_adapter
from tests.support.adapters import HIDDEN, MODULES, SHAPES, write_adapter, write_base

BASE = "b" * 64
FIRST_A = f"base_model.model.{MODULES[0]}.lora_A.weight"
FIRST_B = f"base_model.model.{MODULES[0]}.lora_B.weight"


def verify(folder: Path, **options: object):
    known = {"base_digest": BASE, "declared_base_digest": BASE, "base_shapes": SHAPES, **options}
    return verify_adapter(folder, **known)  # type: ignore[arg-type]


def reasons_of(folder: Path, **options: object) -> str:
    with pytest.raises(RefusedError) as refused:
        verify(folder, **options)
    assert refused.value.reasons
    return " ".join(refused.value.reasons)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_sound_adapter_passes(tmp_path: Path, dtype: object) -> None:
    folder = write_adapter(tmp_path / "adapter", dtype=dtype)
    facts = verify(folder, expected_digest=adapter_digest(folder))
    assert (facts.rank, facts.modules) == (4, tuple(sorted(MODULES)))


def tamper_pickle(folder: Path) -> None:
    (folder / "adapter_model.bin").write_bytes(b"\x80\x04.")


def tamper_link(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder.parent / "elsewhere")
    (folder / WEIGHTS).symlink_to(folder.parent / "elsewhere")


def tamper_code(folder: Path) -> None:
    (folder / "modeling.py").write_text("print()")


def tamper_folder(folder: Path) -> None:
    (folder / "checkpoint-1").mkdir()


def tamper_header(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", 2**40) + b"{}")


def tamper_large_header(folder: Path) -> None:
    header = json.dumps({"__metadata__": {"x": "y" * 5_000_000}}).encode()
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(header)) + header)


def tamper_truncation(folder: Path) -> None:
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[:-4])


def tamper_overlap(folder: Path) -> None:
    header = json.dumps({name: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for name in (FIRST_A, FIRST_B)}).encode()
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 4)


@pytest.mark.parametrize(
    ("tamper", "reason"),
    [
        (tamper_pickle, "may be a pickle"),
        (tamper_link, "symbolic link"),
        (tamper_code, "does not belong"),
        (tamper_folder, "does not belong"),
        (tamper_header, "shorter than its header"),
        (tamper_large_header, "are allowed"),
        (tamper_truncation, "does not describe all bytes"),
        (tamper_overlap, "overlap"),
    ],
)
def test_tampered_files_are_refused(tmp_path: Path, tamper: Callable[[Path], None], reason: str) -> None:
    folder = write_adapter(tmp_path / "adapter")
    tamper(folder)
    assert reason in reasons_of(folder)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"peft_type": "IA3"}, "only LORA"),
        ({"r": 128}, "1 to 64 are allowed"),
        ({"r": 0}, "1 to 64 are allowed"),
        ({"r": True}, "1 to 64 are allowed"),
        ({"r": 8}, "is not the one that"),
        ({"rank_pattern": {"q_proj": 900}}, "1 to 64 are allowed"),
        ({"target_modules": ["v_proj"]}, "not among the target modules"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"auto_mapping": {"base_model_class": "Evil"}}, "auto_mapping"),
        ({"auto_map": {"AutoModel": "modeling.Evil"}}, "auto_map"),
        ({"bias": "all"}, "bias"),
        ({"use_dora": True}, "use_dora"),
        ({"layer_replication": [[0, 1]]}, "layer_replication"),
    ],
)
def test_settings_that_do_more_than_lora_are_refused(tmp_path: Path, config: dict[str, object], reason: str) -> None:
    assert reason in reasons_of(write_adapter(tmp_path / "adapter", config=config))


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        ({FIRST_A: np.full((4, HIDDEN), np.nan, dtype=np.float32)}, "infinite values or NaN"),
        ({FIRST_B: np.full((HIDDEN, 4), np.inf, dtype=np.float16)}, "infinite values or NaN"),
        ({FIRST_A: np.zeros((4, HIDDEN), dtype=np.int32)}, "has type I32"),
        ({FIRST_A: np.zeros((4, HIDDEN), dtype=np.float64)}, "has type F64"),
        ({FIRST_A: np.zeros((4, HIDDEN + 1), dtype=np.float32)}, "the base has [16, 16]"),
        ({FIRST_A: np.zeros((5, HIDDEN), dtype=np.float32)}, "do not fit"),
        ({FIRST_A: np.zeros((4,), dtype=np.float32)}, "two dimensions"),
        ({FIRST_B: None}, "one of its two matrices is missing"),
        ({"lm_head.weight": np.zeros((2, 2), dtype=np.float32)}, "no part of a LoRA"),
        (
            {
                "base_model.model.model.layers.9.self_attn.q_proj.lora_A.weight": np.zeros((4, HIDDEN), dtype=np.float32),
                "base_model.model.model.layers.9.self_attn.q_proj.lora_B.weight": np.zeros((HIDDEN, 4), dtype=np.float32),
            },
            "the base has no such module",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path: Path, tensors: dict[str, object], reason: str) -> None:
    assert reason in reasons_of(write_adapter(tmp_path / "adapter", tensors=tensors))


def test_another_base_is_refused_and_so_is_one_that_nobody_named(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "adapter")
    assert "trained on the base aaaa" in reasons_of(folder, declared_base_digest="a" * 64)
    assert "(none named)" in reasons_of(folder, declared_base_digest=None)


def test_other_files_than_those_registered_are_refused(tmp_path: Path) -> None:
    digest = adapter_digest(write_adapter(tmp_path / "one"))
    assert "not those that were registered" in reasons_of(write_adapter(tmp_path / "two", seed=1), expected_digest=digest)


def test_every_fault_is_named(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "adapter", config={"bias": "all", "peft_type": "IA3"})
    with pytest.raises(RefusedError) as refused:
        verify(folder)
    assert len(refused.value.reasons) == 2


def test_an_adapter_without_weights_or_configuration_is_refused(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "adapter", tensors={})
    (folder / CONFIG).unlink()
    assert f"`{CONFIG}` is missing" in reasons_of(folder)
    folder = write_adapter(tmp_path / "empty")
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", 2) + b"{}")
    assert "no weights" in reasons_of(folder)


def test_bfloat16_infinity_is_seen_without_a_bfloat16_type(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "adapter", dtype=np.float16)
    data = (folder / WEIGHTS).read_bytes()
    length = int.from_bytes(data[:8], "little")
    # The same bytes declared as BF16, finite in both readings except for one word set to infinity (0x7F80).
    header = data[8 : 8 + length].replace(b'"F16"', b'"BF16"')
    words = np.zeros((len(data) - 8 - length) // 2, dtype="<u2")
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(header)) + header + words.tobytes())
    verify(folder)
    words[3] = 0x7F80
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(header)) + header + words.tobytes())
    assert "infinite" in reasons_of(folder)


def test_shapes_of_a_base_are_read_from_its_headers(tmp_path: Path) -> None:
    assert base_shapes_of(write_base(tmp_path / "base")) == SHAPES


def test_base_may_hold_whole_numbers_beside_its_weights(tmp_path: Path) -> None:
    folder = write_base(tmp_path / "base")
    save_file({"embeddings.position_ids": np.arange(8)[None]}, folder / "positions.safetensors")
    assert base_shapes_of(folder) == {**SHAPES, "embeddings.position_ids": (1, 8)}


@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=200), length=st.integers(0, 300))
def test_no_bytes_make_the_header_reader_fail_in_another_way(tmp_path_factory: pytest.TempPathFactory, data: bytes, length: int) -> None:
    path = tmp_path_factory.getbasetemp() / f"{os.getpid()}.safetensors"
    path.write_bytes(struct.pack("<Q", length) + data)
    with contextlib.suppress(ValueError):
        read_header(path)
