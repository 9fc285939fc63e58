"""`affinage experiment`: A/B between the champion and a candidate, and the arithmetic behind it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from affinage.cli.context import installation
from affinage.cli.output import JsonFlag, emit
from affinage.errors import AffinageError, UsageError
from affinage.wiring import Affinage

experiments = typer.Typer(
    no_args_is_help=True, help="A/B between the champion and a candidate.\n\nExample: affinage experiment status guichet"
)

Which = Annotated[
    str | None,
    typer.Argument(metavar="[NAME]", help="An experiment, or an assistant (its newest one); default: the only one, or the newest ended."),
]


@experiments.command("start")
def start(
    assistant: Annotated[str, typer.Argument(help="A declared assistant.")],
    candidate: Annotated[str, typer.Option("--candidate", help="Variant id (or its first digits), or adapter name.")],
    name: Annotated[str | None, typer.Option("--name", help="Name of the experiment; default: ASSISTANT-NUMBER.")] = None,
    layer: Annotated[str, typer.Option("--layer", help="Salt of the draw, beside the name.")] = "default",
    json_output: JsonFlag = False,
) -> None:
    """Show CANDIDATE to the first declared share of users, against the champion.

    Example: affinage experiment start guichet --candidate guichet@3f0c9a1b
    """
    from affinage.declarations.repository import get_assistant
    from affinage.experiments.start import start_experiment
    from affinage.registry.variants import resolve_variant

    with installation() as app:
        with app.database.read() as connection:
            spec = get_assistant(connection, assistant)
            variant_id = resolve_variant(connection, candidate).variant_id
        started = start_experiment(
            app.database,
            assistant=assistant,
            candidate=variant_id,
            rollout=spec.rollout,
            name=name,
            layer=layer,
            now=app.now,
            new_id=app.new_id,
            actor="command line",
            warm=app.warm_variant,
        )
        _show(app, started.experiment_id, as_json=json_output)


@experiments.command("status")
def status(name: Which = None, json_output: JsonFlag = False) -> None:
    """Show state, arms and evidence.

    Example: affinage experiment status guichet
    """
    with installation() as app:
        _show(app, _named(app, name), as_json=json_output)


@experiments.command("evaluate")
def evaluate(name: Which = None, json_output: JsonFlag = False) -> None:
    """Look at the evidence now and do what follows: ramp, pause, promote, roll back, or nothing.

    Example: affinage experiment evaluate guichet
    """
    with installation() as app:
        done = app.look_at_experiment(_named(app, name), actor="command line")
        if done.steps and done.experiment.ended_at is not None:
            app.follow_moves()  # only now is MLflow imported
        steps = [{"to_state": str(step.to_state), "stage": step.stage, "reason": step.reason} for step in done.steps]
        _show(app, done.experiment.experiment_id, as_json=json_output, more={"steps": steps})


@experiments.command("stop")
def stop(name: Which = None, json_output: JsonFlag = False) -> None:
    """End an experiment; the champion serves everybody from the next request on.

    Example: affinage experiment stop guichet-1
    """
    from affinage.experiments.operate import stop_experiment

    with installation() as app:
        stopped = stop_experiment(app.database, experiment_id=_named(app, name), now=app.now, new_id=app.new_id, actor="command line")
        _show(app, stopped.experiment_id, as_json=json_output)


def _named(app: Affinage, name: str | None) -> str:
    from affinage.experiments.repository import list_experiments

    if name is not None:
        return name
    with app.database.read() as connection:
        live = [e.experiment_id for e in list_experiments(connection, live=True)]
        every = [e.experiment_id for e in list_experiments(connection)]
    if len(live) > 1:
        raise UsageError(f"{len(live)} experiments are running.", hint=f"Name one of them: {', '.join(sorted(live))}.")
    if not every:
        raise AffinageError("There is no experiment yet.", hint="Start one: `affinage experiment start ASSISTANT --candidate VARIANT`.")
    return (live or every)[0]


def _show(app: Affinage, name: str, *, as_json: bool, more: dict[str, Any] | None = None) -> None:
    from affinage.experiments.repository import get_experiment
    from affinage.experiments.status import experiment_status, lines_of

    with app.database.read() as connection:
        found = experiment_status(connection, get_experiment(connection, name), now=app.now())
    emit({**found, **(more or {})}, as_json=as_json, lines=lines_of(found))


@experiments.command("assign")
def assign_(
    experiment: Annotated[str, typer.Option("--experiment", help="Name of the experiment; one that does not exist gives control.")],
    unit: Annotated[str, typer.Option("--unit", help="The unit as it is drawn: a pseudonym, a conversation or a key.")],
    layer: Annotated[str | None, typer.Option("--layer", help="Salt; default: the experiment's, else `default`.")] = None,
    json_output: JsonFlag = False,
) -> None:
    """Compute where UNIT lies on [0, 1), its arm now, and how probable the candidate was for it.

    Example: affinage experiment assign --experiment tone-2 --unit alice
    """
    from affinage.experiments.assignment import CONTROL, DEFAULT_LAYER, position
    from affinage.experiments.repository import Experiment, find_exact
    from affinage.experiments.routing import RoutingTable, assign, earlier_arms
    from affinage.experiments.states import SPLITTING

    with installation() as app, app.database.read() as connection:
        found: Experiment | None = find_exact(connection, experiment)
        seen = earlier_arms(connection, experiment_id=experiment, unit=unit)
    if found is not None and layer not in (None, found.layer):
        raise UsageError(f"Experiment `{experiment}` is in layer `{found.layer}`, not `{layer}`.", hint="Leave out `--layer`.")
    u = position(unit, experiment=experiment, layer=layer or (found.layer if found else DEFAULT_LAYER))
    arm, q = CONTROL, 0.0
    if found is not None and found.state in SPLITTING:
        drawn = assign(RoutingTable({found.assistant: found}), found.assistant, unit, seen)
        arm, q = drawn.arm, drawn.q
    result = {"u": u, "arm": arm, "q": q, "experiment": experiment, "unit": unit}
    emit(result, as_json=json_output, lines=[f"{unit}: {arm} (u {u!r}, q {q:g})"])


@experiments.command("replay")
def replay_(
    events: Annotated[Path, typer.Option("--events", help="JSON lines {seq, unit, arm, q, kind, value}.")],
    config: Annotated[Path | None, typer.Option("--config", help="YAML or JSON: alpha, alpha_harm, min_units, max_units, …")] = None,
    json_output: JsonFlag = False,
) -> None:
    """Decide from a file of events, with no clock and no store.

    Example: affinage experiment replay --events exposures.jsonl
    """
    from affinage.experiments.events import in_order, read_events
    from affinage.experiments.replay import TestConfig, replay

    tests = TestConfig() if config is None else TestConfig.from_mapping(_mapping(config), origin=str(config))
    try:
        with events.open(encoding="utf-8") as lines:
            found = in_order(read_events(lines, origin=str(events)), origin=str(events))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{events} cannot be read: {error}.", hint="Give a file of JSON lines.") from error
    result = replay(found, tests)
    told = [f"{test.name:18} log E {test.log_e:+8.3f} of {test.threshold:.3f}" for test in result.tests if test.max_log_e > 0]
    emit(result.as_dict(), as_json=json_output, lines=[f"{result.decision} (event {result.decided_at}): {result.reason}", *told])


def _mapping(file: Path) -> dict[str, Any]:
    import yaml

    try:
        raw = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{file} cannot be read: {error}.", hint="Give a YAML or JSON file.") from error
    if not isinstance(raw, dict):
        raise UsageError(f"{file} must hold a mapping, not {json.dumps(raw, default=str)[:40]}.", hint="For example: {alpha: 0.05}.")
    return raw


@experiments.command("simulate")
def simulate_(
    *,
    scenario: Annotated[str, typer.Option("--scenario", help="constant, drift, daily-cycle, ramp, drift-with-ramp, …")],
    runs: Annotated[int, typer.Option("--runs", min=1, help="Independent experiments.")] = 2000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same figures.")] = 1,
    effect: Annotated[float, typer.Option("--effect", min=-1, max=1, help="Lift of the candidate; 0: no difference.")] = 0.0,
    ratings: Annotated[int | None, typer.Option("--ratings", min=1, help="Ratings in each run.")] = None,
    json_output: JsonFlag = False,
) -> None:
    """Run many experiments on invented users, and count how often the evidence decides.

    Example: affinage experiment simulate --scenario drift-with-ramp --runs 2000 --seed 1
    """
    import time

    from affinage.experiments.simulate import simulate

    began = time.perf_counter()
    found = simulate(scenario, runs=runs, seed=seed, effect=effect, ratings=ratings)
    result = {**found.as_dict(), "seconds": round(time.perf_counter() - began, 3)}
    emit(result, as_json=json_output, lines=[f"{key:20} {value}" for key, value in result.items()])
