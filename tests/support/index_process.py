"""One sync in a process of its own, which may end itself at a step: `python -m tests.support.index_process FOLDER [STEP]`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from affinage.index.stores.lancedb import LanceStore
from affinage.index.sync import sync_source
from affinage.wiring import random_id, utc_now
from tests.support.indexing import World


def main() -> None:
    folder, step = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None
    world = World(folder, store=LanceStore(folder / "vectors"), declared=True)
    world.new_id = random_id

    def reached(name: str) -> None:
        if name == step:
            os.kill(os.getpid(), signal.SIGKILL)

    report = sync_source(world.clients(reached=reached, now=utc_now), "handbook", confirm_deletes=True)
    sys.stdout.write(str(len(world.embedder.embedded)) + " " + report.status + "\n")
    world.close()


if __name__ == "__main__":
    main()
