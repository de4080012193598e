"""losslint, the program itself, on a run's finished log: it looks back, and nothing else here does.

Its errors count as critical alerts and its warnings as warnings, at the steps that it names, or,
where it names none, at the first step of the last tenth of the log, which is what it measured. What
it calls info is not told: it does not fail a run.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any, Final

from losslint.checks import run_all_checks
from losslint.parsing import load_run

from benchmarks.detection.recordings import Recording
from benchmarks.detection.told import Alert

KINDS: Final = {
    "nan_inf": "non_finite",
    "divergence": "divergence",
    "loss_spike": "loss_spike",
    "step_backtrack": "divergence",
}
SEVERITIES: Final = {"error": "critical", "warning": "warning"}


def losslint_alerts(recording: Recording) -> list[Alert]:
    """What losslint finds in the run's loss, gradient norm and learning rate."""
    alerts: list[Alert] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "metrics.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in _log(recording)))
        findings = run_all_checks(load_run(path))
    tenth = max(1, recording.num_rows // 10)
    for finding in findings:
        if finding.severity not in SEVERITIES or finding.check not in KINDS:
            continue
        back = [step for _, step in finding.details.get("backtracks", ())]
        steps = finding.details.get("steps") or back or [int(recording.steps[-tenth])]
        alerts += [
            {
                "run": recording.id,
                "step": int(step),
                "kind": KINDS[finding.check],
                "severity": SEVERITIES[finding.severity],
                "series": [],
            }
            for step in steps
        ]
    return alerts


def _log(recording: Recording) -> list[dict[str, Any]]:
    names = [name for name in ("loss", "grad_norm", "lr") if name in recording.scalars]
    return [
        {"step": int(recording.steps[row])}
        | {n: float(recording.scalars[n][row]) for n in names if recording.logged[n][row]}
        for row in range(recording.num_rows)
    ]
