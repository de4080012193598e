"""Names of the metrics that the service really exposes, asked from a running service."""

from __future__ import annotations

import re
import urllib.request
from pathlib import Path

from foreshock.demo.server import DemoServer

SUFFIXES = ("_bucket", "_sum", "_count", "_created")
NAME = re.compile(r"\bforeshock_(?:run|ingest|deliveries)\w*")


def exposed(data_dir: Path) -> set[str]:
    """Names in the `# TYPE` lines of `/metrics`, in Prometheus' text format."""
    with (
        DemoServer(data_dir) as server,
        urllib.request.urlopen(f"{server.url}/metrics", timeout=10) as answer,
    ):
        text = answer.read().decode()
    return set(re.findall(r"^# TYPE (foreshock_\w+)", text, re.MULTILINE))


def mentioned(text: str) -> set[str]:
    """Metrics named in `text`, a histogram by its own name."""
    return {_family(name) for name in NAME.findall(text)}


def _family(name: str) -> str:
    for suffix in SUFFIXES:
        if name.endswith(suffix):
            return name.removesuffix(suffix)
    return name
