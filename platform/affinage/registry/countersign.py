"""The installation's countersignature on adapters that were verified and passed the gate (or a recorded override).

An engine loads only countersigned files: whoever can write to the registry cannot put an adapter in front of users.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime

from sqlalchemy import Connection, select, update

from affinage.database.tables.registry import variant
from affinage.errors import RefusedError, UnknownObjectError
from affinage.identity.secrets import COUNTERSIGNATURES, installation_secret


def countersign(connection: Connection, *, variant_id: str, gate_id: str, now: datetime) -> str:
    """Sign the variant's adapter in the name of `gate_id` and store the signature; needs a write transaction.

    Parameters
    ----------
    gate_id
        The gate result that passed, or `override:<move>` for a recorded override.
    """
    row = connection.execute(select(variant).where(variant.c.variant_id == variant_id)).first()
    if row is None:
        raise UnknownObjectError("variant", variant_id, hint="`affinage adapter list` shows the variants.")
    secret = installation_secret(connection, COUNTERSIGNATURES)
    signature = _signature(secret, variant_id, row.adapter_digest, row.spec.get("base_digest"), gate_id)
    values = {"gate_id": gate_id, "countersignature": signature, "countersigned_at": now}
    connection.execute(update(variant).where(variant.c.variant_id == variant_id).values(**values))
    return signature


def check_countersignature(connection: Connection, *, variant_id: str, adapter_digest: str | None) -> None:
    """Whether the files with `adapter_digest` are those that were signed for this variant.

    Raises
    ------
    RefusedError
        If the variant has no countersignature, or it is not for these files, this base and this gate.
    """
    row = connection.execute(select(variant).where(variant.c.variant_id == variant_id)).first()
    if row is None:
        raise UnknownObjectError("variant", variant_id, hint="`affinage adapter list` shows the variants.")
    if row.countersignature is None:
        raise RefusedError(
            f"Variant `{variant_id}` is not countersigned.",
            reasons=["It has not passed the gate."],
            hint=f"Run `affinage adapter evaluate {variant_id}`.",
        )
    secret = installation_secret(connection, COUNTERSIGNATURES)
    expected = _signature(secret, variant_id, adapter_digest, row.spec.get("base_digest"), row.gate_id)
    if not hmac.compare_digest(expected, row.countersignature):
        raise RefusedError(
            f"The countersignature of variant `{variant_id}` does not fit its files.",
            reasons=["The adapter's files, its base or its record changed after it was countersigned."],
            hint=f"Find out who changed it; then `affinage adapter evaluate {variant_id}` again.",
        )


def _signature(secret: bytes, *parts: str | None) -> str:
    # Each part is preceded by its length: no two lists of parts give the same bytes.
    message = b"".join(f"{len(part or '')}:{part or ''};".encode() for part in parts)
    return hmac.new(secret, b"affinage/adapter/1\0" + message, hashlib.sha256).hexdigest()
