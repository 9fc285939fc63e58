"""Log format and every Prometheus metric, declared once.

Metrics are named `affinage_<what>_<unit>`, in base units, with bounded labels: never a user, an id or a text. The
registry is passed in, so each test starts clean. Logs never hold prompts, answers, documents or secrets.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

# From a cache hit to a long generation on a CPU; each step is about a factor of two.
LATENCY_BUCKETS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80)
# What the gateway itself adds is of the order of a millisecond.
OVERHEAD_BUCKETS_SECONDS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5)
# From a run in which nothing changed to a first build.
SYNC_BUCKETS_SECONDS = (0.1, 0.5, 1, 5, 15, 60, 300, 1800, 7200)

# A batch has at most 32 rows in the generator, and a request at most 256 texts in the embedder.
BATCH_BUCKETS_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """All metrics of one process."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry if registry is not None else CollectorRegistry()
        r = self.registry
        self.gateway_requests = Counter(
            "affinage_gateway_requests_total", "Requests by assistant, arm and outcome.", ["assistant", "arm", "outcome"], registry=r
        )
        self.gateway_request_duration = Histogram(
            "affinage_gateway_request_duration_seconds",
            "From request to last byte.",
            ["assistant", "arm"],
            buckets=LATENCY_BUCKETS_SECONDS,
            registry=r,
        )
        self.gateway_time_to_first_token = Histogram(
            "affinage_gateway_time_to_first_token_seconds",
            "From request to first released text.",
            ["assistant", "arm"],
            buckets=LATENCY_BUCKETS_SECONDS,
            registry=r,
        )
        self.gateway_overhead = Histogram(
            "affinage_gateway_overhead_seconds",
            "Request time not spent retrieving or generating.",
            buckets=OVERHEAD_BUCKETS_SECONDS,
            registry=r,
        )
        self.gateway_inflight = Gauge("affinage_gateway_inflight", "Requests being answered.", registry=r)
        self.tokens = Counter("affinage_tokens_total", "Tokens by direction (input, output).", ["direction"], registry=r)
        self.index_documents = Gauge("affinage_index_documents", "Documents by source and state.", ["source", "state"], registry=r)
        self.index_held_documents = Gauge(
            "affinage_index_held_documents", "Missing documents whose deletion waits for a person.", ["source"], registry=r
        )
        self.index_sync_duration = Histogram(
            "affinage_index_sync_duration_seconds", "Duration of a sync.", ["source"], buckets=SYNC_BUCKETS_SECONDS, registry=r
        )
        self.index_embedded_chunks = Counter("affinage_index_embedded_chunks_total", "Chunks embedded.", ["source"], registry=r)
        self.index_last_success = Gauge(
            "affinage_index_last_success_timestamp_seconds", "When a sync last completed.", ["source"], registry=r
        )
        self.feedback = Counter(
            "affinage_feedback_total", "Feedback by assistant, arm and value.", ["assistant", "arm", "value"], registry=r
        )
        self.experiment_state = Gauge("affinage_experiment_state", "1 for the current state.", ["experiment", "state"], registry=r)
        self.experiment_traffic_weight = Gauge("affinage_experiment_traffic_weight", "Share of an arm.", ["experiment", "arm"], registry=r)
        self.experiment_log_e_value = Gauge(
            "affinage_experiment_log_e_value", "Natural log of the e-value.", ["experiment", "test"], registry=r
        )
        self.experiment_lift = {
            bound: Gauge(
                f"affinage_experiment_lift_{bound}", f"Share of up-ratings, candidate less control: {bound}.", ["experiment"], registry=r
            )
            for bound in ("estimate", "lower", "upper")
        }
        self.adapter_ready = Gauge(
            "affinage_adapter_ready", "1 when every ready pod has the adapter, 0 when one does not take it.", ["adapter"], registry=r
        )
        self.adapter_load_seconds = Histogram(
            "affinage_adapter_load_seconds", "Time to load and prove an adapter.", buckets=LATENCY_BUCKETS_SECONDS, registry=r
        )
        self.adapter_verify_failures = Counter("affinage_adapter_verify_failures_total", "Adapters refused at load.", registry=r)
        self.adapter_unloads = Counter("affinage_adapter_unloads_total", "Adapters taken off pods because nobody needed them.", registry=r)
        self.controller_leader = Gauge("affinage_controller_leader", "1 on the controller that leads.", registry=r)
        self.controller_duty_failures = Counter(
            "affinage_controller_duty_failures_total", "Duties of the controller that failed, by name.", ["duty"], registry=r
        )


class EngineMetrics:
    """Metrics of one engine's service: `embedder` or `generator`."""

    def __init__(self, service: str, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry if registry is not None else CollectorRegistry()
        r, prefix = self.registry, f"affinage_{service}"
        self.requests = Counter(f"{prefix}_requests_total", "Requests by route and status.", ["route", "status"], registry=r)
        self.request_duration = Histogram(
            f"{prefix}_request_duration_seconds",
            "From request to last byte.",
            ["route"],
            buckets=LATENCY_BUCKETS_SECONDS,
            registry=r,
        )
        self.inflight = Gauge(f"{prefix}_inflight", "Requests being answered, streams included.", registry=r)
        self.tokens = Counter(f"{prefix}_tokens_total", "Tokens by direction (input, output).", ["direction"], registry=r)
        self.adapters = Gauge(f"{prefix}_adapters", "Adapters that are loaded.", registry=r)
        self.ready = Gauge(f"{prefix}_ready", "1 when the weights are loaded and have answered once.", registry=r)
        self.batch_rows = Histogram(f"{prefix}_batch_rows", "Requests or texts answered together.", buckets=BATCH_BUCKETS_ROWS, registry=r)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the fields given in `extra`."""

    _STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

    def format(self, record: logging.LogRecord) -> str:
        """Render `record` as one line."""
        fields = {key: value for key, value in vars(record).items() if key not in self._STANDARD}
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **fields,
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


def configure_logging(*, log_format: str, level: str) -> None:
    """Send our logs to standard error: text on a laptop, JSON in a cluster."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("affinage")
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False
