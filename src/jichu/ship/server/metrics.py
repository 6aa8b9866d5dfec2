"""What a server counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

__all__ = ["CONTENT_TYPE_LATEST", "Metrics"]


class Metrics:
    """A registry of its own, so that several servers can live in a process. Models are told apart by the names that
    they are served under, requests by the pattern of their path: what a client writes becomes no label."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "jichu_requests", "Requests answered", ["path", "model", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "jichu_request_seconds", "Seconds from a request's first byte to the last of its answer", ["path", "model"],
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
            registry=self.registry,
        )  # fmt: skip
        self.batches = Histogram(
            "jichu_batch_rows", "Rows that were predicted together", ["model"],
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256), registry=self.registry,
        )  # fmt: skip
        self.writing = Gauge(
            "jichu_texts_written", "Texts that are being written", ["model"], registry=self.registry
        )
        self.tokens = Counter(
            "jichu_tokens", "Tokens read and written", ["model", "kind"], registry=self.registry
        )
        self.waiting = Gauge("jichu_waiting", "Rows and texts that wait", ["model"], registry=self.registry)
        self.kept = Counter("jichu_rows_kept", "Rows that were kept", ["model"], registry=self.registry)
        self.not_kept = Counter(
            "jichu_rows_not_kept", "Rows for which there was no room", ["model"], registry=self.registry
        )
        self.versions = Gauge(
            "jichu_model", "Models that are served", ["model", "version"], registry=self.registry
        )

    def text(self) -> bytes:
        """All of them, as Prometheus reads them."""
        return generate_latest(self.registry)
