"""The variant that an assistant starts with: its declaration and the generations that serve now. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from affinage.answers.prompts import load_prompt
from affinage.answers.variant import Variant
from affinage.declarations.model import AssistantSpec


def default_variant(spec: AssistantSpec, *, generations: Mapping[str, str], base_digest: str | None) -> Variant:
    """What serves `spec` as long as nothing was promoted: the bare base with the declared prompt, greedy.

    Parameters
    ----------
    generations
        Serving generation by source.
    base_digest
        Digest of the engine's weights; None for an engine without weights of ours.
    """
    schema = None if spec.answer_schema is None else _digest(spec.answer_schema)
    return Variant(
        assistant=spec.name,
        engine=spec.engine,
        base_digest=base_digest,
        adapter=None,
        adapter_digest=None,
        prompt_digest=load_prompt(spec.prompt).digest,
        generations=dict(sorted(generations.items())),
        decoding={"max_tokens": spec.max_output_tokens, "temperature": 0.0, "schema": schema},
    )


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
