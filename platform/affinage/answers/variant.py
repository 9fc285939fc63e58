"""A variant: all that decides an answer, named by its content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Variant:
    """Base, adapter, prompt, index generations and decoding of one assistant.

    `adapter` is the immutable name `assistant@digest8`, or None. `generations` maps source to generation id.
    """

    assistant: str
    engine: str
    base_digest: str | None
    adapter: str | None
    adapter_digest: str | None
    prompt_digest: str
    generations: Mapping[str, str] = field(default_factory=dict)
    decoding: Mapping[str, Any] = field(default_factory=dict)

    @property
    def variant_id(self) -> str:
        """First 16 hexadecimal digits of SHA-256 over the canonical JSON of all fields."""
        canonical = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]
