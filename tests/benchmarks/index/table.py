"""The results as a table that is read in a terminal and in Markdown. Pure."""

from __future__ import annotations

from typing import Any

ENGINES = {"ours": "Affinage", "langchain": "LangChain", "llamaindex": "LlamaIndex", "cocoindex": "CocoIndex"}


def lines(rows: list[dict[str, Any]], engines: list[str]) -> list[str]:
    """The table; one row for each workload, its cells `embedded / seconds, processor seconds, MiB`."""
    peers = [name for name in engines if name != "ours"]
    header = ["Workload", "Must reach", *(ENGINES[name] for name in engines), "Fastest peer / ours", "Reached"]
    found = [header, ["---"] * len(header)]
    for row in rows:
        cells = [_cell(row["results"].get(name)) for name in engines]
        misses = row.get("misses")
        reached = "-" if misses is None else "no: " + ", ".join(misses) if misses else "yes"
        found.append([row["title"], row["must"], *cells, _ratio(row["results"], peers), reached])
    return ["| " + " | ".join(cells) + " |" for cells in found]


def _cell(result: dict[str, Any] | None) -> str:
    if result is None:
        return "-"
    if "error" in result:
        return f"failed: {result['error']}"
    return f"{result['embedded']} / {result['seconds']:.2f} s, {result['cpu_seconds']:.2f}, {result['peak_rss_bytes'] >> 20}"


def _ratio(results: dict[str, dict[str, Any]], peers: list[str]) -> str:
    seconds = [results[name]["seconds"] for name in peers if "seconds" in results.get(name, {})]
    if not seconds or "seconds" not in results.get("ours", {}):
        return "-"
    return f"{min(seconds) / max(results['ours']['seconds'], 1e-4):.1f}"
