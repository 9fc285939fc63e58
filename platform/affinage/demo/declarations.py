"""What the demo declares: one source with rights by folder, and the two assistants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from affinage.demo.calls import CALL_SCHEMA
from affinage.demo.corpus.reading import SOURCE, demo_subjects

GUICHET = "guichet"
APPELS = "appels"
RIGHTS_FOLDER = "urbanisme"
RIGHTS_BEFORE = ("group:urbanisme",)
RIGHTS_AFTER = ("group:accueil", "group:urbanisme")
# The change shown by the demo: the instruction service's notes open to the front desk.

_ROLLOUT = {"shares": [0.5], "min_units": 40, "min_days": 0}
# A small, closed group and one short session: half of the users at once, and no waiting for days.


def declarations(folder: Path) -> dict[str, Any]:
    """Sources, assistants and roles, ready to be written as YAML or parsed.

    Parameters
    ----------
    folder
        Where `write_corpus` put the documents.
    """
    return {
        "sources": [{"name": SOURCE, "kind": "folder", "path": str(folder), "access": access_rules()}],
        "assistants": [
            {
                "name": GUICHET,
                "description": "Répond aux questions des agents sur les procédures, en citant le manuel.",
                "task": "answer",
                "engine": "extractive",
                "sources": [SOURCE],
                "tuning": {"method": "sft", "min_examples": 100},
                "rollout": _ROLLOUT,
            },
            {
                "name": APPELS,
                "description": "Lit la transcription d'un appel et rend le produit, le motif et la référence.",
                "task": "extract",
                "engine": "package:smollm2",
                "sources": [],
                "prompt": "extract-json",
                "answer_schema": CALL_SCHEMA,
                "max_output_tokens": 48,  # the objects have 34 at most
                "tuning": {"method": "sft", "min_examples": 100},
                "rollout": _ROLLOUT,
            },
        ],
        "roles": [
            {"role": "operator", "group": "dsi"},
            {"role": "owner", "group": "direction"},
            {"role": "reviewer", "group": "accueil"},
            {"role": "scientist", "group": "data"},
        ],
    }


def access_rules() -> list[dict[str, Any]]:
    """Everyone reads `public`, a group its own folder, and one person their own; nothing else is readable."""
    rules: list[dict[str, Any]] = [{"match": "public/**", "allow": ["everyone"]}]
    for subject in demo_subjects():
        top = subject.folder.split("/")[0]
        if top == "personnel":
            rules.append({"match": f"{subject.folder}/**", "allow": [f"user:{subject.person}"]})
        elif top != "public":
            rules.append({"match": f"{top}/**", "allow": [f"group:{top}"]})
    return [rule for number, rule in enumerate(rules) if rule not in rules[:number]]


def change_rights(declared: dict[str, Any]) -> dict[str, Any]:
    """The same declarations with the folder `urbanisme` opened to the front desk; nothing is modified in place."""
    changed = [
        {**rule, "allow": list(RIGHTS_AFTER)} if rule["match"] == f"{RIGHTS_FOLDER}/**" else rule
        for rule in declared["sources"][0]["access"]
    ]
    return {**declared, "sources": [{**declared["sources"][0], "access": changed}, *declared["sources"][1:]]}


def write_declarations(declared: dict[str, Any], file: Path) -> None:
    """Write `declared` as the YAML that `affinage apply -f` reads."""
    file.write_text(yaml.safe_dump(declared, allow_unicode=True, sort_keys=False), encoding="utf-8")
