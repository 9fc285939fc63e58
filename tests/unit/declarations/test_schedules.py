"""What runs by itself follows from what is declared."""

from pathlib import Path

import pytest

from affinage.declarations.model import parse_declarations
from affinage.declarations.schedules import LOOK, scheduled_flows
from affinage.errors import ConfigurationError

DECLARED = {
    "sources": [{"name": "handbook", "path": "a", "schedule": "0 * * * *"}, {"name": "letters", "path": "b"}],
    "assistants": [
        {"name": "guichet", "sources": ["handbook"], "tuning": {"schedule": "0 2 * * 6"}},
        {"name": "appels", "task": "extract", "engine": "package:smollm2", "sources": []},
        {"name": "lettres", "engine": "package:smollm2", "sources": []},
    ],
}


def test_each_source_and_assistant_has_its_flow_and_only_a_declared_time() -> None:
    declared = parse_declarations(DECLARED, folder=Path("/"), origin="test")
    found = {(one.flow, one.name): (one.parameters, one.cron) for one in scheduled_flows(declared.sources, declared.assistants)}
    assert found == {
        ("index", "handbook"): ({"sources": ["handbook"]}, "0 * * * *"),
        ("index", "letters"): ({"sources": ["letters"]}, None),
        ("tune", "guichet"): ({"assistant": "guichet", "kind": "embedding"}, "0 2 * * 6"),
        ("tune", "appels"): ({"assistant": "appels", "kind": "extraction"}, None),
        ("tune", "lettres"): ({"assistant": "lettres", "kind": "sft"}, None),
        ("index", "changed sources"): ({"changed": True}, LOOK),
        ("evaluate", "candidates"): ({"variants": []}, LOOK),
        ("promote", "evidence"): ({}, LOOK),
    }


@pytest.mark.parametrize("schedule", ["hourly", "0 * * *", "0 * * * * *", "0 * * * *; rm", "@daily"])
def test_what_is_no_schedule_is_refused_where_it_is_declared(schedule: str) -> None:
    with pytest.raises(ConfigurationError, match=r"sources\.0\.schedule"):
        parse_declarations({"sources": [{"name": "a", "path": "a", "schedule": schedule}]}, folder=Path("/"), origin="test")
