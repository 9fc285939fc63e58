"""The header of a safetensors file, read without trusting it.

Standard library and numpy only: nothing of the file is executed or interpreted beyond its header and its numbers.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

MAX_HEADER_BYTES = 4 * 1024 * 1024
"""A LoRA on every projection of an 80-layer model has a header of some 200 kB; a larger one is made to exhaust memory."""
WIDTHS = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "BOOL": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1,
}  # fmt: skip
"""Bytes of one number by its safetensors type."""
FLOATS = ("F32", "F16", "BF16")
"""What the weights of an adapter may be."""
_EXPONENT = {"F16": 0x7C00, "BF16": 0x7F80}
_PIECE_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True)
class Tensor:
    """One tensor: its type, shape and place in the file, half-open, in bytes from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def read_header(path: Path, *, max_header_bytes: int = MAX_HEADER_BYTES) -> dict[str, Tensor]:
    """Tensors by name.

    Raises
    ------
    ValueError
        If the header is too large, is not what safetensors writes, or does not describe exactly the bytes of the file.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise ValueError("the file is shorter than its header says")
        if length > max_header_bytes:
            raise ValueError(f"the header has {length} bytes, and {max_header_bytes} are allowed")
        try:
            header = json.loads(file.read(length))
        except (ValueError, RecursionError) as error:
            raise ValueError("the header is not JSON") from error
    if not isinstance(header, dict):
        raise ValueError("the header is not a JSON object")
    header.pop("__metadata__", None)
    tensors = {str(name): _tensor(str(name), value) for name, value in header.items()}
    position = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        if tensor.start != position:
            raise ValueError(f"the bytes of `{name}` overlap others or leave a gap")
        position = tensor.end
    if position != size - 8 - length:
        raise ValueError("the header does not describe all bytes of the file")
    return tensors


def all_finite(path: Path, tensors: dict[str, Tensor]) -> bool:
    """Whether no number of a file whose tensors have types of `FLOATS` is infinite or NaN; reads the file in pieces."""
    with path.open("rb") as file:
        data = 8 + int.from_bytes(file.read(8), "little")
        for tensor in tensors.values():
            file.seek(data + tensor.start)
            left = tensor.end - tensor.start
            while left:
                piece = file.read(min(left, _PIECE_BYTES))
                left -= len(piece)
                if not _finite(piece, tensor.dtype):
                    return False
    return True


def _finite(piece: bytes, dtype: str) -> bool:
    if dtype == "F32":
        return bool(np.isfinite(np.frombuffer(piece, dtype="<f4")).all())
    # numpy has no bfloat16: all exponent bits set means infinite or NaN in both half formats.
    mask = _EXPONENT[dtype]
    return not bool((np.frombuffer(piece, dtype="<u2") & mask == mask).any())


def _tensor(name: str, value: Any) -> Tensor:
    try:
        dtype, shape, (start, end) = value["dtype"], tuple(value["shape"]), value["data_offsets"]
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(f"the entry of `{name}` is not what safetensors writes") from error
    if not all(type(number) is int and number >= 0 for number in (*shape, start, end)):
        raise ValueError(f"shape or place of `{name}` is not made of whole numbers")
    width = WIDTHS.get(dtype) if isinstance(dtype, str) else None
    if width is None:
        raise ValueError(f"`{name}` has the unknown type {dtype}")
    if end - start != math.prod(shape) * width:
        raise ValueError(f"`{name}` has {end - start} bytes, which does not fit its shape {list(shape)}")
    return Tensor(dtype, shape, start, end)


def base_shapes_of(folder: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the base's weights by name, from the headers of its safetensors files."""
    shapes: dict[str, tuple[int, ...]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        shapes.update({name: tensor.shape for name, tensor in read_header(path, max_header_bytes=64 * 1024 * 1024).items()})
    return shapes
