"""One sync in a process of its own, which may end or stop itself at a step.

python -m tests.support.index_process FOLDER [STEP [SIGNAL]]

With the step `ready` it loads everything, says `ready` and begins when it gets a line.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from affinage.index.stores.lancedb import LanceStore
from affinage.index.stores.protocol import VectorStore
from affinage.index.stores.weaviate import WeaviateStore
from affinage.index.sync import sync_source
from affinage.wiring import random_id, utc_now
from tests.support.indexing import World

READY = "ready"
STORE = "TEST_WEAVIATE"
"""Address and gRPC port of a Weaviate server; unset: LanceDB in the world's folder."""


def open_store(folder: Path) -> VectorStore:
    """The store of the world in `folder`."""
    if server := os.environ.get(STORE):
        url, grpc_port = server.split()
        return WeaviateStore(url, grpc_port=int(grpc_port))
    return LanceStore(folder / "vectors")


def main() -> None:
    folder, step = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None
    sent = signal.Signals[sys.argv[3]] if len(sys.argv) > 3 else signal.SIGKILL
    world = World(folder, store=open_store(folder), declared=True)
    world.new_id = random_id

    def reached(name: str) -> None:
        if name == step:
            os.kill(os.getpid(), sent)

    if step == READY:
        world.store.generations()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()
    report = sync_source(world.clients(reached=reached, now=utc_now), "handbook", confirm_deletes=True)
    sys.stdout.write(str(len(world.embedder.embedded)) + " " + report.status + "\n")
    sys.stdout.flush()
    world.close()


if __name__ == "__main__":
    main()
