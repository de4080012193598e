"""Runs for the pages: real batches through the real ingest, incidents as detection stores them."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from foreshock.wire import STATISTICS, Event, Series, SeriesSchema, encode_batch
from foreshock_service.domain.findings import Severity
from foreshock_service.domain.incidents import Departure, Incident, State
from foreshock_service.incidents.verdict import sentence
from foreshock_service.store.detection import save_snapshot
from foreshock_service.store.incidents import insert_incident
from foreshock_service.store.session import Store

from tests.factories import ATTEMPT, START_SECONDS, make_batch, make_stats

BLOCKS = 12
PARTS = ("attn.qkv", "attn.o_proj", "mlp.up", "mlp.down")
HOT_BLOCK, HOT_PART = 7, 1
ONSET, LOSS_STEP = 420, 456
FRAMES_A_BATCH = 40


def block_schema(prefix: str = "blocks") -> SeriesSchema:
    """Gradients and activations of a small transformer."""
    return SeriesSchema(
        tuple(
            Series(
                name=f"{prefix}.{block}.{part}" + ("" if kind == "activation" else ".weight"),
                kind=kind,
                module_type="Linear",
                depth=block * len(PARTS) + place,
                numel=4096,
                dtype="float32",
                shape=(64, 64),
            )
            for kind in ("activation", "gradient")
            for block in range(BLOCKS)
            for place, part in enumerate(PARTS)
        )
    )


def messages(
    run: str,
    *,
    schema: SeriesSchema,
    num_frames: int,
    sick: bool = False,
    first: int = 0,
    finished: bool = False,
    attempt: int = ATTEMPT,
) -> list[bytes]:
    """The batches of a run; a sick one explodes from one layer towards both ends, then is NaN."""
    found = []
    for start in range(first, first + num_frames, FRAMES_A_BATCH):
        count = min(FRAMES_A_BATCH, first + num_frames - start)
        steps = np.arange(start, start + count)
        stats = make_stats(count, len(schema.series), seed=start)
        rng = np.random.default_rng(start)
        loss = 1.9 + 6 * np.exp(-steps / 60) + 0.01 * rng.standard_normal(count)
        norm = 0.3 + 0.03 * rng.standard_normal(count)
        if sick:
            _explode(stats, steps, schema)
            loss += np.where(steps > LOSS_STEP, 0.05 * (steps - LOSS_STEP), 0.0)
            norm *= 10.0 ** np.clip((steps - ONSET) / 60, 0, 3)
            norm[steps >= 570] = math.nan
        events = [
            Event(kind="checkpoint", wall_time=START_SECONDS + int(step), step=int(step))
            for step in steps
            if step and step % 100 == 0
        ]
        if finished and start + count == first + num_frames:
            events.append(Event(kind="finished", wall_time=START_SECONDS + start + count))
        batch = make_batch(
            run,
            seq=start // FRAMES_A_BATCH,
            attempt=attempt,
            first_step=start,
            num_frames=count,
            schema=schema,
            stats=stats,
            scalars={"loss": loss, "grad_norm": norm, "lr": 1e-3},
            events=events,
            host="gpu-0417",
            device="H100",
            world=128,
        )
        found.append(encode_batch(batch))
    return found


def _explode(
    stats: npt.NDArray[np.float32], steps: npt.NDArray[np.int64], schema: SeriesSchema
) -> None:
    root = HOT_BLOCK * len(PARTS) + HOT_PART
    for row, series in enumerate(schema.series):
        if series.kind != "gradient":
            continue
        delay = abs(series.depth - root) * (2.0 if series.depth < root else 6.0)
        decades = np.clip((steps - ONSET - delay) / 45, 0, 3.2)
        factor = (10.0**decades).astype(np.float32)
        for name in ("mean", "std", "min", "max"):
            stats[:, row, STATISTICS.index(name)] *= factor
        if series.depth == root:
            broken = steps >= 560
            stats[broken, row, STATISTICS.index("nan_count")] = 12


def exploded(number: int = 1, *, prefix: str = "blocks") -> Incident:
    """The incident of the sick run."""
    root = HOT_BLOCK * len(PARTS) + HOT_PART
    order = sorted(range(BLOCKS * len(PARTS)), key=lambda depth: abs(depth - root))[:24]
    names = [f"{prefix}.{depth // 4}.{PARTS[depth % 4]}" for depth in order]
    return Incident(
        number=number,
        kind="explosion",
        severity=Severity.CRITICAL,
        state=State.OPEN,
        onset_step=ONSET,
        opened_step=ONSET + 20,
        opened_ord=ONSET + 20,
        updated_step=599,
        group=names[0],
        root_series=f"gradient:{names[0]}.weight",
        confidence=0.9,
        loss_step=LOSS_STEP,
        num_affected=24,
        num_series=96,
        kinds=("explosion",),
        departures=tuple(
            Departure(
                series=f"gradient:{name}.weight",
                step=ONSET + 2 * place,
                statistic="rms",
                ratio=1500.0 / (1 + place),
            )
            for place, name in enumerate(names)
        ),
        evidence={"ratio": 1500.0},
    )


def store_baselines(store: Store, run: str, num_frames: int, schema: SeriesSchema) -> None:
    """Commit what detection knows of the calm series: an rms near 1, from the first frame on."""
    pairs = np.tile(np.array([0.0, 0.1], np.float32), (len(schema.series), 1))
    with store.write() as session:
        for ord_ in range(0, num_frames, 64):
            save_snapshot(session, run, 0, ord_, schema_hash=schema.hash, pairs=pairs)


def store_incident(store: Store, run: str, incident: Incident) -> None:
    """Commit an incident with the sentence that detection would give it."""
    with store.write() as session:
        insert_incident(
            session, run, 0, incident, sentence=sentence(incident), now=START_SECONDS + 600
        )
