"""What the wiring of the engines' services derives."""

from pathlib import Path

import pytest

from affinage.errors import ConfigurationError
from affinage.settings import Settings
from affinage.wiring.services import _layer_matrices, generator_service
from tests.support.adapters import SHAPES, write_base


def test_adapters_may_change_the_matrices_of_layers_and_not_the_head() -> None:
    shapes = {
        **SHAPES,
        "model.layers.1.self_attn.q_proj.weight": (16, 16),
        "model.layers.1.self_attn.q_proj.bias": (16,),
        "model.layers.1.input_layernorm.weight": (16,),
        "model.embed_tokens.weight": (100, 16),
        "lm_head.weight": (100, 16),
        "model.norm.weight": (16,),
    }
    assert sorted(_layer_matrices(shapes)) == [
        "model.layers.0.mlp.down_proj",
        "model.layers.0.self_attn.q_proj",
        "model.layers.1.self_attn.q_proj",
    ]


def test_a_runtime_that_is_not_installed_is_refused_with_what_to_do(tmp_path: Path) -> None:
    settings = Settings(
        home=tmp_path, generator_engine=str(write_base(tmp_path / "base")), generator_runtime="vllm", generator_vllm=tmp_path / "absent"
    )
    with pytest.raises(ConfigurationError, match="no Python of vLLM") as caught:
        generator_service(settings)
    assert "AFFINAGE_GENERATOR_VLLM" in caught.value.hint
