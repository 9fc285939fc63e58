#!/usr/bin/python3.11
"""Plays each program of the chart's pods, with Python alone: listens where the probes ask, and refuses a pod that is not as promised.

Lies in the image of `test_chart.py` as `affinage`, `bentoml` and `prefect`, and as the flows' `deploy.py`.
"""

import http.server
import os
import signal
import sys
import threading
import time
from pathlib import Path

USER = 10001
STREAM_SECONDS = 3
PROGRAM, WORDS = Path(sys.argv[0]).name, sys.argv[1:]


def broken_promises():
    """What this pod was promised and has not got."""
    if os.getuid() != USER or os.getgid() != USER:
        yield f"runs as {os.getuid()}:{os.getgid()}"
    for folder in ("/", "/app", "/usr/bin"):
        if writable(folder):
            yield f"{folder} can be written to"
    for folder in ("/tmp", os.environ["HOME"], os.environ["AFFINAGE_HOME"], os.environ.get("BENTOML_HOME"), os.environ.get("PREFECT_HOME")):
        if folder and not writable(folder):
            yield f"{folder} cannot be written to"
    if Path("/var/run/secrets/kubernetes.io").exists():
        yield "has a token of the cluster's API"
    links = [name for name in os.environ if name.startswith("AFFINAGE_") and (name.endswith("_SERVICE_HOST") or "_PORT_" in name)]
    links = [name for name in links if name != "AFFINAGE_VECTORS_GRPC_PORT"]
    if links:
        yield f"knows {links}"
    if os.environ.get("AFFINAGE_THREADS", "2") != "2":
        yield f"would use {os.environ['AFFINAGE_THREADS']} threads, and its limit is 2"
    if PROGRAM == "bentoml" and "AFFINAGE_DATABASE_URL" in os.environ:
        yield "a model server knows the database"
    if PROGRAM != "bentoml" and os.environ.get("AFFINAGE_DATABASE_URL") != "postgresql://test":
        yield "the database's address is not what the Secret says"


def writable(folder):
    """Whether a file can be made there; an empty directory's own folder is made first, as programs do."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        file = Path(folder) / "probe"
        file.write_text("x")
        file.unlink()
    except OSError:
        return False
    return True


class Answer(http.server.BaseHTTPRequestHandler):
    """200 everywhere but at /v1/models, which asks for a token."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(401 if self.path == "/v1/models" else 200)
        if self.path == "/stream":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for _ in range(STREAM_SECONDS * 10):
                self.wfile.write(b"5\r\ntoken\r\n")
                time.sleep(0.1)
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    """Closing waits for the answers under way."""

    daemon_threads = False
    request_queue_size = 128


def serve(*ports):
    """Listen until SIGTERM, then finish what is under way."""
    servers = [Server(("", port), Answer) for port in ports]
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    ended.wait()
    for server in servers:
        server.shutdown()
        server.server_close()


def option(name):
    """The number after an option."""
    return int(WORDS[WORDS.index(name) + 1])


broken = list(broken_promises())
print(PROGRAM, WORDS, broken or "all as promised", flush=True)  # noqa: T201  its log
if broken:
    sys.exit(1)
if PROGRAM == "affinage" and WORDS[:2] == ["serve", "gateway"]:
    serve(option("--port"), option("--metrics-port"))
elif PROGRAM == "affinage" and WORDS[:2] == ["serve", "controller"]:
    serve(option("--metrics-port"))
elif PROGRAM == "affinage" and WORDS[0] == "apply":
    # The declarations lie where the command looks.
    sys.exit("handbook" not in Path(WORDS[WORDS.index("-f") + 1]).read_text())
elif PROGRAM == "bentoml":
    serve(option("--port"))
elif PROGRAM == "prefect":
    serve(8080)
