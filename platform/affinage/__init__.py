"""Affinage: documents become answers, answers become feedback, feedback becomes better models.

The folder names are the loop, in order: identity, declarations, engines, scoring, documents, index, answers, feedback,
datasets, registry, tuning, residency, experiments, lineage, serving, rollout, console. A room imports rooms before it,
never after it; `wiring` builds everything, `cli` prints it.
"""

__version__ = "0.1.0"
