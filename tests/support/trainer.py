"""Stands in for the trainer's process: `python -m tests.support.trainer JOB.json`, and behaves as its environment says."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from tests.support.adapters import write_adapter


def main(job: Path) -> int:
    values = json.loads(job.read_text(encoding="utf-8"))
    rows = Path(values["rows"]).read_text(encoding="utf-8").splitlines()
    sys.stderr.write(json.dumps({"step": 1, "steps": 1, "loss": 0.5}) + "\n")
    sys.stderr.flush()
    behaviour = os.environ.get("TRAINER", "finish")
    if behaviour == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if behaviour == "diverge":
        sys.stderr.write(json.dumps({"error": "TrainingFailedError", "message": "The loss is nan.", "hint": "Lower the rate."}) + "\n")
        return 1
    out = write_adapter(Path(values["out"]), seed=values["seed"])
    result = {
        "kind": values["kind"],
        "folder": str(out),
        "rows": len(rows),
        "dropped": 0,
        "steps": 1,
        "resumed_from_step": 1 if values["resume"] else None,
        "train_loss": 0.5,
        "trainable_parameters": 256,
        "seed": values["seed"],
        "recipe_digest": "r",
        "seconds": 1.0,
        "peak_rss_bytes": 1024,
    }
    Path(values["result"]).write_text(json.dumps(result), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
