"""`affinage base`: model weights that never leave the site."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from affinage.cli.context import installation
from affinage.cli.output import JsonFlag, emit
from affinage.errors import UsageError

bases = typer.Typer(no_args_is_help=True, help="Base models, registered by digest.\n\nExample: affinage base add package:smollm2")


@bases.command("add")
def add(
    path: Annotated[str, typer.Argument(metavar="PATH", help="Hugging Face folder with safetensors, or `package:smollm2`.")],
    name: Annotated[str | None, typer.Option("--name", help="Name of the base; default: the folder's.")] = None,
    licence: Annotated[str | None, typer.Option("--licence", help="SPDX identifier; default: as the model card says.")] = None,
    json_output: JsonFlag = False,
) -> None:
    """Register the weights in PATH; they stay where they are.

    Example: affinage base add ./models/mistral-7b --name mistral-7b
    """
    from affinage.engines.digest import base_digest
    from affinage.registry.bases import describe_base, register_base

    with installation() as app:
        if path.startswith("package:"):
            if name is not None or licence is not None:
                raise UsageError("A packaged base has its own name and licence.", hint=f"Leave the options out: affinage base add {path}")
            described = app.base(path)
        else:
            folder = Path(path)
            described = describe_base(folder, name=name or folder.absolute().name, digest="", licence=licence)
            described = describe_base(folder, name=described.name, digest=base_digest(folder), licence=licence)
        base = register_base(app.database, app.registry, described, now=app.now)
    result = {
        "base": base.name,
        "digest": base.digest,
        "licence": base.licence,
        "context_tokens": base.context_tokens,
        "model_version": base.model_version,
    }
    emit(result, as_json=json_output, lines=[f"{base.name}  {base.digest[:12]}…  {base.licence}  {base.context_tokens} tokens"])


@bases.command("list")
def list_(json_output: JsonFlag = False) -> None:
    """Show the registered bases.

    Example: affinage base list
    """
    from affinage.registry.bases import list_bases

    with installation() as app, app.database.read() as connection:
        found = list_bases(connection)
    rows = [{"base": b.name, "digest": b.digest, "licence": b.licence, "context_tokens": b.context_tokens, "path": b.path} for b in found]
    lines = [f"{b.name}  {b.digest[:12]}…  {b.licence}  {b.context_tokens} tokens" for b in found]
    emit({"bases": rows}, as_json=json_output, lines=lines or ["No base is registered: `affinage base add PATH`."])
