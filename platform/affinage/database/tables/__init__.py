"""Every table, by the room that owns it. Values are mapped to domain types in that room, explicitly.

Instants are aware UTC (`Instant`), structured values are JSON (`Json`), ids are text.
"""

from affinage.database.tables import answers, datasets, declarations, experiments, feedback, identity, index, registry
from affinage.database.tables.base import metadata

__all__ = ["answers", "datasets", "declarations", "experiments", "feedback", "identity", "index", "metadata", "registry"]
