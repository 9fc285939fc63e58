"""Which flows run by themselves, and when: decided from what is declared.

Called by `flows/deploy.py`, which tells Prefect. Knows nothing of Prefect.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from affinage.declarations.model import AssistantSpec, SourceSpec

LOOK = "*/5 * * * *"
"""How often changed sources, candidates and experiments are looked at: all answer in seconds when there is nothing to do."""


@dataclass(frozen=True)
class ScheduledFlow:
    """One flow with its parameters. `cron` None: it is run by hand only."""

    flow: str
    name: str
    parameters: dict[str, Any]
    cron: str | None


def scheduled_flows(sources: Iterable[SourceSpec], assistants: Iterable[AssistantSpec]) -> list[ScheduledFlow]:
    """One `index` for each source, one `tune` for each assistant, and the looks at changed sources, candidates and the evidence."""
    return [
        *(ScheduledFlow("index", source.name, {"sources": [source.name]}, source.schedule) for source in sources),
        *(
            ScheduledFlow("tune", assistant.name, {"assistant": assistant.name, "kind": learns(assistant)}, assistant.tuning.schedule)
            for assistant in assistants
        ),
        # No source can have a name with a space.
        ScheduledFlow("index", "changed sources", {"changed": True}, LOOK),
        ScheduledFlow("evaluate", "candidates", {"variants": []}, LOOK),
        ScheduledFlow("promote", "evidence", {}, LOOK),
    ]


def learns(assistant: AssistantSpec) -> str:
    """The kind of rows that the assistant's tuning needs: its engine's, or its embedder's where no model answers."""
    if assistant.engine == "extractive":
        return "embedding"
    return "extraction" if assistant.task == "extract" else "sft"
