"""The Foreshock service: ingest, storage, detection, alerts, dashboard and metrics."""

__version__ = "0.1.0"
