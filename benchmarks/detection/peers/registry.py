"""Every peer, one a line, and a run's alerts by each of them in one pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from benchmarks.detection.peers.losses import (
    CumulativeSum,
    KillLossSpike,
    NanOnly,
    RollingZ,
    SpikeDetection,
)
from benchmarks.detection.peers.losslint import losslint_alerts
from benchmarks.detection.peers.norms import AdaGC, AutoClip, SixSigma, ZClip
from benchmarks.detection.peers.protocol import Alarm, Peer, rows_of
from benchmarks.detection.peers.sagemaker import SageMaker
from benchmarks.detection.recordings import Recording
from benchmarks.detection.told import Alert

PEERS: Final[dict[str, Callable[[], Peer]]] = {
    "SageMaker Debugger's rules": SageMaker,
    "SageMaker's without LossNotDecreasing": lambda: SageMaker(loss=False),
    "OLMo, 6 sigma": SixSigma,
    "KillLossSpike": KillLossSpike,
    "Lightning SpikeDetection": SpikeDetection,
    "CUSUM (trainscope)": CumulativeSum,
    "loss, rolling z of 3": lambda: RollingZ(3.0),
    "loss, rolling z of 6": lambda: RollingZ(6.0),
    "NaN only": NanOnly,
    "ZClip as an alarm": ZClip,
    "AutoClip as an alarm": lambda: AutoClip(10.0),
    "AutoClip, 99th percentile": lambda: AutoClip(99.0, first=50),
    "AdaGC as an alarm": AdaGC,
    "AdaGC, told from 10 times": lambda: AdaGC(alarm=10.0),
}
OF_TENSORS: Final = frozenset(("AdaGC as an alarm", "AdaGC, told from 10 times"))
"""Peers that read single tensors, and have nothing to say of a log."""
LOSSLINT: Final = "losslint, after the fact"


def peers_alerts(recording: Recording) -> dict[str, list[Alert]]:
    """Alerts on a run by the name of each peer."""
    alarms = {name: Alarm(recording.id, make()) for name, make in PEERS.items()}
    for seen in rows_of(recording):
        for alarm in alarms.values():
            alarm.push(seen)
    found = {name: alarm.alerts for name, alarm in alarms.items()}
    return {**found, LOSSLINT: losslint_alerts(recording)}
