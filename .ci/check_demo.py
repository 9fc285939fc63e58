"""Check the figures of `affinage demo --json`: what the product promises, never how long it took.

Usage: check_demo.py DEMO.json
"""

import json
import sys
from pathlib import Path
from typing import Any


def failures(demo: dict[str, Any]) -> list[str]:
    """One sentence for each promise that does not hold."""
    found = []

    def promise(holds: bool, sentence: str) -> None:
        if not holds:
            found.append(sentence)

    steps = {step["name"]: step["result"] for step in demo["steps"]}
    promise(len(steps) >= 8, f"the demo has {len(steps)} steps, fewer than 8")
    promise(steps["corpus"]["documents"] >= 120, f"only {steps['corpus']['documents']} documents")
    promise(len(steps["corpus"]["formats"]) >= 5, f"only {steps['corpus']['formats']} formats")
    promise(steps["unchanged"]["embedded"] == 0, f"an unchanged corpus embedded {steps['unchanged']['embedded']} chunks")
    promise(steps["changes"]["edit"]["embedded"] <= 3, f"one edited paragraph embedded {steps['changes']['edit']['embedded']} chunks")
    promise(steps["changes"]["rename"]["embedded"] == 0, "a rename embedded something")
    promise(steps["changes"]["rights"]["embedded"] == 0, "a change of rights embedded something")
    promise(steps["rights"]["with_rights_known"] is True, "who may read the document got no answer")
    promise(steps["rights"]["without_rights_cited_it"] is False, "who may not read the document was shown it")
    embedding, extraction = steps["gate"]["embedding"], steps["gate"]["extraction"]
    promise(embedding["documents"] >= 36, f"only {embedding['documents']} held-out documents")
    for name, gate in (("embedding", embedding), ("extraction", extraction)):
        promise(gate["gate"] == "passed", f"the {name} adapter was refused: {gate['reasons']}")
        promise(gate["interval"][0] > 0, f"the {name} adapter's gain is not above zero: {gate['interval']}")
    promise(steps["gate"]["damaged"]["gate"] == "refused", "the damaged adapter was not refused")
    promise(steps["experiment"]["decision"] == "promote", f"the experiment ended with {steps['experiment']['decision']}")
    promise(steps["explain"]["feedback"] > 0, "the answer does not lead back to any feedback")
    return found


def main() -> int:
    """Print the figures, then each broken promise; 1 when there is one."""
    demo = json.loads(Path(sys.argv[1]).read_text())
    for step in demo["steps"]:
        print(f"{step['name']:12} {step['seconds']:7.1f} s  {json.dumps(step['result'], ensure_ascii=False)}")
    print(f"{'total':12} {demo['seconds']:7.1f} s, peak memory {demo['peak_rss_bytes'] / 2**30:.2f} GiB")
    broken = failures(demo)
    for sentence in broken:
        print(f"FAILED: {sentence}.")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
