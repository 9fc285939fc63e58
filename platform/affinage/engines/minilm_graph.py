"""MiniLM-L6 as an ONNX graph, written node by node from its weights.

Pooling and L2 normalisation are inside, so that the session returns finished vectors. Building takes a second and no
torch. Called by `minilm.py` only.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

OPSET = 20  # first with Gelu
# opset 20 belongs to IR version 9; newer IR versions are refused by older runtimes.
_IR_VERSION = 9
_LAYERS, _HEADS, _WIDTH, _EPSILON = 6, 12, 384, 1e-12
_HEAD_WIDTH = _WIDTH // _HEADS
# Added to the score of a padded position: exp() of it is exactly 0 in fp32.
_MASKED = -1e9


class _Graph:
    def __init__(self, weights: Mapping[str, NDArray[np.float32]]) -> None:
        self.weights = weights
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self._known: set[str] = set()

    def constant(self, name: str, value: NDArray[Any]) -> str:
        from onnx import numpy_helper  # noqa: PLC0415

        if name not in self._known:
            self._known.add(name)
            self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        from onnx import helper  # noqa: PLC0415

        output = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def weight(self, name: str, *, transposed: bool = False) -> str:
        return self.constant(name, self.weights[name].T if transposed else self.weights[name])

    def ints(self, *values: int) -> str:
        return self.constant("i" + "_".join(map(str, values)), np.array(values, dtype=np.int64))

    def linear(self, x: str, module: str) -> str:
        product = self.node("MatMul", x, self.weight(f"{module}.weight", transposed=True))
        return self.node("Add", product, self.weight(f"{module}.bias"))

    def norm(self, x: str, module: str) -> str:
        return self.node("LayerNormalization", x, self.weight(f"{module}.weight"), self.weight(f"{module}.bias"), axis=-1, epsilon=_EPSILON)


def _floats(*values: float) -> NDArray[np.float32]:
    return np.array(values, dtype=np.float32)


def write_graph(weights: Mapping[str, NDArray[np.float32]], file: Path) -> None:
    """Write the model to `file`.

    Inputs `input_ids` and `attention_mask`, int64 (batch, tokens); output `embedding`, float32 (batch, 384), length 1.
    """
    import onnx  # noqa: PLC0415
    from onnx import TensorProto, helper  # noqa: PLC0415

    graph = _Graph(weights)
    x = _embeddings(graph)
    mask = graph.node("Cast", "attention_mask", to=TensorProto.FLOAT)  # (batch, tokens)
    one, masked = graph.constant("one", _floats(1.0)), graph.constant("masked", _floats(_MASKED))
    bias = graph.node("Mul", graph.node("Sub", one, mask), masked)
    bias = graph.node("Unsqueeze", bias, graph.ints(1, 2))  # (batch, 1, 1, tokens)
    for layer in range(_LAYERS):
        x = _layer(graph, x, bias, f"encoder.layer.{layer}")
    graph.nodes.append(helper.make_node("Identity", [_pooled(graph, x, mask)], ["embedding"]))
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"]) for name in ("input_ids", "attention_mask")]
    output = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", _WIDTH])
    model = helper.make_model(
        helper.make_graph(graph.nodes, "minilm", inputs, [output], graph.initializers),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=_IR_VERSION,
    )
    onnx.save_model(model, str(file))


def _embeddings(graph: _Graph) -> str:
    words = graph.node("Gather", graph.weight("embeddings.word_embeddings.weight"), "input_ids")
    # Slice with one-dimensional bounds: Range and Gather with a scalar crashed in the runtime's fusion.
    tokens = graph.node("Slice", graph.node("Shape", "input_ids"), graph.ints(1), graph.ints(2))
    positions = graph.node("Slice", graph.weight("embeddings.position_embeddings.weight"), graph.ints(0), tokens, graph.ints(0))
    kind = graph.constant("token_type", graph.weights["embeddings.token_type_embeddings.weight"][0])
    return graph.norm(graph.node("Add", graph.node("Add", words, positions), kind), "embeddings.LayerNorm")


def _layer(graph: _Graph, x: str, bias: str, name: str) -> str:
    def heads(module: str, order: list[int]) -> str:
        split = graph.node("Reshape", graph.linear(x, f"{name}.attention.self.{module}"), graph.ints(0, 0, _HEADS, _HEAD_WIDTH))
        return graph.node("Transpose", split, perm=order)

    scores = graph.node("MatMul", heads("query", [0, 2, 1, 3]), heads("key", [0, 2, 3, 1]))  # (batch, heads, tokens, tokens)
    scores = graph.node("Mul", scores, graph.constant("scale", _floats(_HEAD_WIDTH**-0.5)))
    shares = graph.node("Softmax", graph.node("Add", scores, bias), axis=-1)
    context = graph.node("Transpose", graph.node("MatMul", shares, heads("value", [0, 2, 1, 3])), perm=[0, 2, 1, 3])
    context = graph.node("Reshape", context, graph.ints(0, 0, _WIDTH))
    attended = graph.norm(
        graph.node("Add", graph.linear(context, f"{name}.attention.output.dense"), x), f"{name}.attention.output.LayerNorm"
    )
    inner = graph.node("Gelu", graph.linear(attended, f"{name}.intermediate.dense"))
    return graph.norm(graph.node("Add", graph.linear(inner, f"{name}.output.dense"), attended), f"{name}.output.LayerNorm")


def _pooled(graph: _Graph, x: str, mask: str) -> str:
    """Mean over the real tokens, then length 1: (batch, width)."""
    weights = graph.node("Unsqueeze", mask, graph.ints(2))
    total = graph.node("ReduceSum", graph.node("Mul", x, weights), graph.ints(1), keepdims=0)
    mean = graph.node("Div", total, graph.node("ReduceSum", weights, graph.ints(1), keepdims=0))
    length = graph.node("ReduceL2", mean, graph.ints(1), keepdims=1)
    return graph.node("Div", mean, graph.node("Max", length, graph.constant("tiny", _floats(1e-12))))
