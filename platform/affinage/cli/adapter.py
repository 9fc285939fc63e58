"""`affinage adapter`: variants, the adapters they carry, and the gate. Verbs act on variants."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from affinage.cli.context import installation
from affinage.cli.output import JsonFlag, emit, note
from affinage.errors import RefusedError

adapters = typer.Typer(
    no_args_is_help=True, help="Variants and their adapters: train, evaluate, promote.\n\nExample: affinage adapter list"
)

Which = Annotated[str, typer.Argument(metavar="VARIANT", help="Variant id (or its first digits), or adapter name.")]
Assistant = Annotated[str, typer.Argument(metavar="ASSISTANT", help="A declared assistant.")]
Actor = Annotated[str, typer.Option("--as", help="Who decides; kept with the record.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept with the record.")]


@adapters.command("train")
def train(
    assistant: Assistant,
    dataset: Annotated[str | None, typer.Option("--dataset", help="Id of a dataset; default: the newest.")] = None,
    recipe: Annotated[Path | None, typer.Option("--recipe", help="TOML recipe; default: as declared, else the shipped one.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the last training that did not finish.")] = False,
    json_output: JsonFlag = False,
) -> None:
    """Train a LoRA adapter on a dataset of ASSISTANT and register it.

    Example: affinage adapter train appels --resume
    """
    with installation() as app:
        file = str(recipe) if recipe else None
        trained = app.train_adapter(assistant, dataset=dataset, recipe=file, resume=resume, progress=note)
    for warning in trained.warnings:
        note(f"Warning: {warning}")
    lines = [
        f"Adapter {trained.adapter} (variant {trained.variant}, version {trained.model_version}) in {trained.seconds:.0f} s.",
        f"Next: affinage adapter evaluate {trained.variant}",
    ]
    emit(trained.as_dict(), as_json=json_output, lines=lines)


@adapters.command("evaluate")
def evaluate(
    variant: Which,
    dataset: Annotated[str | None, typer.Option("--dataset", help="Id of a dataset; default: the one it learned from.")] = None,
    json_output: JsonFlag = False,
) -> None:
    """Compare VARIANT with the champion (at first: the bare base) on held-out rows; exit 3 when refused.

    Example: affinage adapter evaluate appels@3f0c9a1b
    """
    with installation() as app:
        evaluation = app.evaluate_variant(_resolve(app, variant), dataset=dataset)
    result = evaluation.as_dict()
    emit(result, as_json=json_output, lines=_gate_lines(result))
    if not evaluation.decision.passed:
        raise typer.Exit(3)


@adapters.command("register")
def register(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="PEFT folder with safetensors.")],
    assistant: Annotated[str, typer.Option("--assistant", help="Whose variant it becomes.")],
    json_output: JsonFlag = False,
) -> None:
    """Register an adapter that was trained elsewhere; what it leaves out is taken from the champion.

    Example: affinage adapter register ./out/adapter --assistant appels
    """
    with installation() as app:
        variant, version = app.register_adapter(path, assistant=assistant)
    result = {"adapter": variant.adapter, "variant": variant.variant_id, "model_version": version, "adapter_digest": variant.adapter_digest}
    emit(result, as_json=json_output, lines=[f"Adapter {variant.adapter} (variant {variant.variant_id}, version {version})."])


@adapters.command("follow")
def follow(json_output: JsonFlag = False) -> None:
    """Take in what was done in MLflow since the last look.

    A variant whose alias `candidate` was set there meets the gate next; one whose alias `champion` was set serves at once, when
    its files are sound.

    Example: affinage adapter follow
    """
    with installation() as app:
        app.follow_moves()
        moved = app.take_in_champions()
        taken = app.take_in_candidates()
    found = [
        {
            "assistant": stored.variant.assistant,
            "adapter": stored.variant.adapter,
            "variant": stored.variant_id,
            "model_version": stored.model_version,
        }
        for stored in taken
    ]
    lines = [f"{one['assistant']}: version {one['model_version']} is variant {one['variant']}." for one in found]
    lines += [f"{move.assistant} is served by {move.variant_id} now." for move in moved]
    champions = [{"assistant": move.assistant, "variant": move.variant_id} for move in moved]
    emit({"candidates": found, "champions": champions}, as_json=json_output, lines=lines or ["No alias was set since the last look."])


@adapters.command("verify")
def verify(variant: Which, json_output: JsonFlag = False) -> None:
    """Check the adapter's files: names, sizes, shapes, numbers, base and digest; exit 3 when refused.

    Example: affinage adapter verify appels@3f0c9a1b
    """
    with installation() as app:
        variant_id = _resolve(app, variant)
        reasons: list[str] = []
        try:
            stored = app.verify_variant(variant_id)
        except RefusedError as error:
            reasons = list(error.reasons) or [error.message]
            stored = None
    result: dict[str, Any] = {
        "variant": variant_id,
        "adapter": stored.variant.adapter if stored else None,
        "verified": stored is not None,
        "countersigned": stored is not None and stored.countersigned_at is not None,
        "reasons": reasons,
    }
    emit(result, as_json=json_output, lines=reasons or [f"Variant {variant_id} is sound."])
    if reasons:
        raise typer.Exit(3)


@adapters.command("promote")
def promote(variant: Which, actor: Actor = "command line", reason: Reason = "promoted by hand", json_output: JsonFlag = False) -> None:
    """Make VARIANT serve its assistant: a recorded override of gate and experiment, never of verification.

    Example: affinage adapter promote appels@3f0c9a1b --reason "tested by the team"
    """
    with installation() as app:
        move = app.promote_variant(_resolve(app, variant), actor=actor, reason=reason)
    _show_move(move, override=True, as_json=json_output)


@adapters.command("rollback")
def rollback(
    assistant: Assistant, actor: Actor = "command line", reason: Reason = "rolled back by hand", json_output: JsonFlag = False
) -> None:
    """Make the variant that served ASSISTANT before serve again, once every pod has its adapter.

    Example: affinage adapter rollback appels
    """
    with installation() as app:
        move = app.rollback_variant(assistant, actor=actor, reason=reason)
    _show_move(move, override=False, as_json=json_output)


@adapters.command("retire")
def retire(variant: Which, json_output: JsonFlag = False) -> None:
    """Make sure that VARIANT never serves again; its record stays.

    Example: affinage adapter retire appels@3f0c9a1b
    """
    from affinage.registry.moves import retire_variant

    with installation() as app:
        variant_id = _resolve(app, variant)
        with app.database.write() as connection:
            changed = retire_variant(connection, variant_id=variant_id, now=app.now())
    emit({"variant": variant_id, "retired": True, "changed": changed}, as_json=json_output, lines=[f"Variant {variant_id} is retired."])


@adapters.command("show")
def show(variant: Which, json_output: JsonFlag = False) -> None:
    """Show what VARIANT is made of, what the gate said, which pods have its adapter, and why it does not serve though it should.

    Example: affinage adapter show appels@3f0c9a1b
    """
    from affinage.registry.history import gate_results, held_because
    from affinage.registry.moves import pointer_of
    from affinage.registry.variants import resolve_variant

    with installation() as app:
        with app.database.read() as connection:
            stored = resolve_variant(connection, variant)
            pointer = pointer_of(connection, stored.variant.assistant)
            gates = gate_results(connection, stored.variant_id)
            held = held_because(connection, stored.variant_id)
        pods = app.pods_of(stored)
    result = {**_row(stored, serving=pointer is not None and pointer.variant_id == stored.variant_id), "gates": gates}
    result |= {
        "engine": stored.variant.engine,
        "base_digest": stored.variant.base_digest,
        "adapter_digest": stored.variant.adapter_digest,
        "prompt_digest": stored.variant.prompt_digest,
        "generations": dict(stored.variant.generations),
        "decoding": dict(stored.variant.decoding),
        "dataset_id": stored.dataset_id,
        "run_id": stored.run_id,
        "pods": pods,
        "held": held,
    }
    emit(result, as_json=json_output, lines=[f"{key:16} {value}" for key, value in result.items()])


@adapters.command("list")
def list_(
    assistant: Annotated[str | None, typer.Option("--assistant", help="Only this assistant's.")] = None,
    json_output: JsonFlag = False,
) -> None:
    """Show the variants, the oldest first.

    Example: affinage adapter list --assistant appels
    """
    from affinage.registry.moves import pointer_of
    from affinage.registry.variants import list_variants

    with installation() as app, app.database.read() as connection:
        found = list_variants(connection, assistant)
        pointers = {name: pointer_of(connection, name) for name in {stored.variant.assistant for stored in found}}
    serving = {pointer.variant_id for pointer in pointers.values() if pointer is not None}
    rows = [_row(stored, serving=stored.variant_id in serving) for stored in found]
    lines = [f"{row['variant']}  {row['assistant']}  {row['adapter'] or '-'}  {row['state']}" for row in rows]
    emit({"variants": rows}, as_json=json_output, lines=lines or ["There are no variants yet."])


def _resolve(app: Any, name: str) -> str:
    from affinage.registry.variants import resolve_variant

    with app.database.read() as connection:
        return resolve_variant(connection, name).variant_id


State = Literal["champion", "retired", "tainted", "countersigned", "registered"]


def _row(stored: Any, *, serving: bool) -> dict[str, Any]:
    state: State = "registered"
    if serving:
        state = "champion"
    elif stored.retired_at is not None:
        state = "retired"
    elif stored.tainted:
        state = "tainted"
    elif stored.countersigned_at is not None:
        state = "countersigned"
    return {
        "variant": stored.variant_id,
        "assistant": stored.variant.assistant,
        "adapter": stored.variant.adapter,
        "adapter_task": stored.adapter_task,
        "model_version": stored.model_version,
        "state": state,
        "created_at": stored.created_at,
    }


def _gate_lines(result: dict[str, Any]) -> list[str]:
    metrics = result["metrics"]
    lines = [f"Gate: {result['gate']}", *(f"  {reason}" for reason in result["reasons"])]
    named = {metrics["primary"]: metrics, **metrics["others"]}
    for name, figures in named.items():
        if figures["difference"] is not None:
            low, high = (("-" if bound is None else f"{bound:+.3f}") for bound in figures["interval"])
            lines.append(
                f"  {name:12} {figures['control']:.3f} -> {figures['candidate']:.3f}  {figures['difference']:+.3f} [{low}, {high}]"
            )
    return lines


def _show_move(move: Any, *, override: bool, as_json: bool) -> None:
    result = {
        "assistant": move.assistant,
        "variant": move.variant_id,
        "previous": move.previous_variant_id,
        "version": move.version,
        "override": override,
    }
    emit(
        result,
        as_json=as_json,
        lines=[f"{move.assistant} is served by {move.variant_id} now (before: {move.previous_variant_id or 'none'})."],
    )
