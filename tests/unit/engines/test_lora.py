from pathlib import Path
from typing import Any

import numpy as np
import pytest

from affinage.engines.lora import merge_lora
from affinage.errors import DependencyError, UnknownObjectError
from tests.support.adapters import MODULES, SHAPES, write_adapter


def weights() -> dict[str, Any]:
    rng = np.random.default_rng(7)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()} | {
        "other.weight": np.ones((2, 2), np.float32)
    }


def test_the_product_is_added_with_its_scale(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    before = weights()
    merged = merge_lora(before, write_adapter(tmp_path, rank=4))
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    for module in MODULES:
        a, b = (tensors[f"base_model.model.{module}.lora_{side}.weight"] for side in "AB")
        # alpha is twice the rank, so the scale is 2.
        np.testing.assert_allclose(merged[f"{module}.weight"], before[f"{module}.weight"] + 2.0 * b @ a, rtol=1e-5)
    assert merged["other.weight"] is before["other.weight"]


def test_rank_stabilised_scaling_divides_by_the_root(tmp_path: Path) -> None:
    before = weights()
    plain = merge_lora(before, write_adapter(tmp_path / "a", rank=4))
    stabilised = merge_lora(before, write_adapter(tmp_path / "b", rank=4, config={"use_rslora": True}))
    name = f"{MODULES[0]}.weight"
    # 8 / sqrt(4) = 4 instead of 8 / 4 = 2.
    np.testing.assert_allclose(stabilised[name] - before[name], 2 * (plain[name] - before[name]), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"config": {"use_dora": True}}, "use_dora"),
        ({"config": {"peft_type": "IA3"}}, "IA3"),
        ({"config": {"bias": "all"}}, "not plain LoRA"),
        ({"config": {"r": 8}}, "does not fit"),
        ({"tensors": {"base_model.model.absent.lora_A.weight": np.ones((4, 16), np.float32)}}, "absent"),
        ({"tensors": {f"base_model.model.{MODULES[0]}.lora_B.weight": None}}, "does not fit"),
        ({"tensors": {f"base_model.model.{MODULES[0]}.lora_A.weight": np.full((4, 16), np.nan, np.float32)}}, "not finite"),
        ({"tensors": {"base_model.model.classifier.weight": np.ones((2, 2), np.float32)}}, "not a LoRA matrix"),
    ],
)
def test_what_would_be_ignored_is_refused(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    with pytest.raises(DependencyError, match=reason):
        merge_lora(weights(), write_adapter(tmp_path, rank=4, **change))


def test_a_missing_or_damaged_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownObjectError, match=str(tmp_path)):
        merge_lora(weights(), tmp_path)
    folder = write_adapter(tmp_path / "damaged")
    (folder / "adapter_model.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(DependencyError, match="cannot be read"):
        merge_lora(weights(), folder)
