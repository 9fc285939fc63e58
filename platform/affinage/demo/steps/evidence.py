"""The candidate meets users, the evidence decides, and an answer leads back to what trained it."""

from __future__ import annotations

from typing import Any

import numpy as np

from affinage.declarations.repository import get_assistant
from affinage.demo.calls import ab_calls
from affinage.demo.declarations import APPELS
from affinage.demo.people import Judgement, rate_extraction
from affinage.demo.steps.people import ask_calls, read_json, store_judgements
from affinage.demo.tour import SEED, Tour
from affinage.experiments.operate import evaluate_experiment
from affinage.experiments.start import start_experiment
from affinage.experiments.states import State
from affinage.experiments.status import experiment_status
from affinage.lineage.explain import explain as explain_answer

CALLS_A_LOOK = 16
# One batch of answers between two looks at the evidence: the bound holds however often one looks.


def experiment(tour: Tour) -> dict[str, Any]:
    """Half of the agents meet the tuned variant; each rates one answer; the test looks after each batch."""
    if not tour.facts.get("extraction_passed"):
        return {"decision": "none", "skipped": "the adapter did not pass its gate, so it meets no user"}
    app, rng = tour.app, np.random.default_rng(SEED)
    with app.database.read() as connection:
        rollout = get_assistant(connection, APPELS).rollout
    candidate = tour.facts["extraction_variant"]
    running = start_experiment(app.database, assistant=APPELS, candidate=candidate, rollout=rollout, now=app.now, new_id=app.new_id)
    fresh = ab_calls()
    asked = 0
    while asked < len(fresh) and running.state is not State.PROMOTED and running.ended_at is None:
        batch = fresh[asked : asked + CALLS_A_LOOK]
        answered = ask_calls(tour, batch)
        thumbs = [rate_extraction(rng, call.expected, read_json(a.record.text)) for call, a in zip(batch, answered, strict=True)]
        store_judgements(tour, answered, [Judgement(thumb) for thumb in thumbs])
        running = evaluate_experiment(app.database, experiment_id=running.experiment_id, now=app.now, new_id=app.new_id).experiment
        asked += len(batch)
    moved = app.follow_moves()
    tour.facts["fresh_call"] = fresh[-1]
    with app.database.read() as connection:
        status = experiment_status(connection, running, now=app.now())
    return {
        "state": status["state"],
        "decision": status["decision"],
        "asked": asked,
        "arms": {arm["name"]: {key: arm[key] for key in ("exposures", "rated", "up")} for arm in status["arms"]},
        "tests": {test["name"]: {"log_e": test["log_e"], "threshold": test["threshold"]} for test in status["tests"]},
        "aliases_moved_in_mlflow": moved,
    }


def explain(tour: Tour) -> dict[str, Any]:
    """Ask one more call and follow the answer back to the corrections that its adapter learnt from."""
    call = tour.facts.get("fresh_call") or ab_calls()[-1]
    answer = ask_calls(tour, [call])[0]
    with tour.app.database.read() as connection:
        found = explain_answer(connection, answer.record.answer_id, reader=None)
    adapters = found["lineage"]["adapters"]
    learnt = adapters[0]["dataset"]["learnt_from"] if adapters else {"rows": 0, "feedback": 0, "users": 0}
    return {
        "question": call.text,
        "answer": answer.record.text,
        "expected": call.expected_json(),
        "adapter": found["adapter"],
        "dataset": adapters[0]["dataset"]["dataset_id"] if adapters else None,
        "rows": learnt["rows"],
        "feedback": learnt["feedback"],
        "people": learnt["users"],
    }
