"""How things are called in the registry."""

from __future__ import annotations

import re

CHAMPION = "champion"
CANDIDATE = "candidate"
TAG = "affinage."
# Prefix of every tag that the platform reads or writes on a model version.


def model_name(organisation: str, assistant: str) -> str:
    """Registered model that holds the versions of an assistant."""
    return f"affinage.{organisation}.{assistant}"


def base_model_name(base: str) -> str:
    """Registered model of a base; MLflow refuses `:` and `/` in names."""
    return "base." + re.sub(r"[/:]+", "-", base)


def adapter_name(assistant: str, digest: str) -> str:
    """Immutable name of an adapter on an engine."""
    return f"{assistant}@{digest[:8]}"
