"""Every table, the same on SQLite and PostgreSQL; `run_id` leads every data key.

Times are float seconds since the epoch (`_at`), sizes are bytes. A blob's `codec` says how to read
it: `raw`, `zstd`, or `blosc` (byte-shuffle and zstd).
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# A key that counts up by itself: SQLite does so only for INTEGER.
Key = BigInteger().with_variant(Integer, "sqlite")


def _run_id(*, primary_key: bool = True) -> Column[str]:
    return Column(
        "run_id",
        String(128),
        ForeignKey("run.run_id", ondelete="CASCADE"),
        primary_key=primary_key,
        nullable=False,
    )


series_schema = Table(
    "series_schema",
    metadata,
    Column("hash", String(32), primary_key=True),
    Column("document", JSON, nullable=False),
    Column("created_at", Double, nullable=False),
)

run = Table(
    "run",
    metadata,
    Column("run_id", String(128), primary_key=True),
    Column("name", String(256), nullable=False),
    Column("project", String(128), nullable=False, server_default="default"),
    Column("status", String(16), nullable=False),  # running | finished | crashed
    Column("created_at", Double, nullable=False),
    Column("heard_at", Double, nullable=False),
    Column("finished_at", Double),
    Column("info", JSON, nullable=False),  # tags, config, optimizer, host, versions, world
    Index("ix_run_heard_at", "heard_at"),
)

attempt = Table(
    "attempt",
    metadata,
    _run_id(),
    Column("attempt", BigInteger, primary_key=True),
    Column("started_at", Double, nullable=False),
    Column("first_step", BigInteger),
)

frame_batch = Table(
    "frame_batch",
    metadata,
    _run_id(),
    Column("rank", Integer, primary_key=True),
    Column("ord0", BigInteger, primary_key=True),
    Column("num_frames", Integer, nullable=False),
    Column("attempt", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("schema_hash", String(32), ForeignKey("series_schema.hash")),
    Column("received_at", Double, nullable=False),
    Column("codec", String(16), nullable=False),
    Column("data", LargeBinary, nullable=False),
)

received = Table(  # remembers every batch after compaction has moved its frames away
    "received",
    metadata,
    _run_id(),
    Column("attempt", BigInteger, primary_key=True),
    Column("rank", Integer, primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("ord0", BigInteger),
    Column("num_frames", Integer, nullable=False),
    Column("crc32", BigInteger, nullable=False),
)

run_head = Table(  # the newest frame of a rank, in the transaction that stored it
    "run_head",
    metadata,
    _run_id(),
    Column("rank", Integer, primary_key=True),
    Column("next_ord", BigInteger, nullable=False),
    Column("compacted_ord", BigInteger, nullable=False, server_default="0"),
    Column("attempt", BigInteger, nullable=False),
    Column("step", BigInteger),
    Column("wall_time", Double),
    Column("schema_hash", String(32)),
    Column("host", String(256), nullable=False),
    Column("device", String(256), nullable=False),
    # NaN and Inf as strings: JSON cannot carry them
    Column("scalars", JSON, nullable=False),
    Column("counters", JSON, nullable=False),
    Column("stats", LargeBinary),  # f32 [series, statistics], last measured value of each series
)

block = Table(
    "block",
    metadata,
    _run_id(),
    Column("rank", Integer, primary_key=True),
    Column("tier", Integer, primary_key=True),  # frames a column: 1, 16, 256
    Column("block", BigInteger, primary_key=True),
    Column("ord0", BigInteger, nullable=False),
    Column("num_columns", Integer, nullable=False),
    Column("attempt", BigInteger, nullable=False),
    Column("schema_hash", String(32)),
    Column("codec", String(16), nullable=False),
    Column("frames", LargeBinary, nullable=False),  # steps, wall times, flags, scalars
    Column("num_bytes", BigInteger, nullable=False),
    Column("received_at", Double, nullable=False),  # when its newest frame came, by our clock
    Index("ix_block_tier_received_at", "tier", "received_at"),
)

chunk = Table(
    "chunk",
    metadata,
    _run_id(),
    Column("rank", Integer, primary_key=True),
    Column("tier", Integer, primary_key=True),
    Column("statistic", String(32), primary_key=True),
    Column("agg", String(8), primary_key=True),  # value | min | max | mean
    Column("block", BigInteger, primary_key=True),
    Column("tile", Integer, primary_key=True),  # 256 series
    Column("codec", String(16), nullable=False),
    Column("crc", BigInteger, nullable=False),
    Column("data", LargeBinary, nullable=False),  # f32 [series, columns]
)

event = Table(
    "event",
    metadata,
    Column("event_id", Key, primary_key=True, autoincrement=True),
    _run_id(primary_key=False),
    Column("rank", Integer, nullable=False),
    Column("attempt", BigInteger, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("step", BigInteger),
    Column("wall_time", Double, nullable=False),
    Column("data", JSON, nullable=False),
    Index("ix_event_run_id_event_id", "run_id", "event_id"),
)

table_rows = Table(  # histograms and per-unit extras, as they came
    "table_rows",
    metadata,
    _run_id(),
    Column("rank", Integer, primary_key=True),
    Column("ord", BigInteger, primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("width", Integer, nullable=False),
    Column("codec", String(16), nullable=False),
    Column("data", LargeBinary, nullable=False),  # series i32 [n], then values f32 [n, width]
)

attachment = Table(  # flight-recorder batches, kept whole
    "attachment",
    metadata,
    Column("attachment_id", Key, primary_key=True, autoincrement=True),
    _run_id(primary_key=False),
    Column("rank", Integer, nullable=False),
    Column("attempt", BigInteger, nullable=False),
    Column("first_step", BigInteger),
    Column("last_step", BigInteger),
    Column("received_at", Double, nullable=False),
    Column("data", LargeBinary, nullable=False),
)

baseline_snapshot = Table(  # each series' own normal, every 64 frames, for the deviation colours
    "baseline_snapshot",
    metadata,
    _run_id(),
    Column("rank", Integer, primary_key=True),
    Column("ord", BigInteger, primary_key=True),
    Column("schema_hash", String(32), nullable=False),
    Column("data", LargeBinary, nullable=False),  # f32 [series, 2]: centre, scale of log2 rms
)

detector_state = Table(
    "detector_state",
    metadata,
    _run_id(),
    Column("rank", Integer, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("next_ord", BigInteger, nullable=False),
    Column("state", LargeBinary, nullable=False),
)

run_lease = Table(
    "run_lease",
    metadata,
    _run_id(),
    Column("owner", String(64), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("expires_at", Double, nullable=False),
)

finding = Table(
    "finding",
    metadata,
    Column("finding_id", Key, primary_key=True, autoincrement=True),
    _run_id(primary_key=False),
    Column("rank", Integer, nullable=False),
    Column("incident_number", Integer),
    Column("ord", BigInteger, nullable=False),
    Column("step", BigInteger, nullable=False),
    Column("detector", String(64), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("severity", String(16), nullable=False),
    Column("series", String(600)),
    Column("document", JSON, nullable=False),
    Index("ix_finding_run_id_step", "run_id", "step"),
)

incident = Table(
    "incident",
    metadata,
    Column("incident_id", Key, primary_key=True, autoincrement=True),
    _run_id(primary_key=False),
    Column("rank", Integer, nullable=False),
    Column("number", Integer, nullable=False),
    Column("kind", String(64), nullable=False),
    Column("severity", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("onset_step", BigInteger, nullable=False),
    Column("loss_step", BigInteger),
    Column("sentence", Text, nullable=False),
    Column("document", JSON, nullable=False),  # the whole Incident
    Column("version", Integer, nullable=False),  # compare-and-set between detection and people
    Column("acknowledged", Boolean, nullable=False),
    Column("opened_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    UniqueConstraint("run_id", "number"),
)

delivery = Table(  # the outbox: one notification to one place, committed with its incident
    "delivery",
    metadata,
    Column("delivery_id", Key, primary_key=True, autoincrement=True),
    _run_id(primary_key=False),
    Column("incident_number", Integer, nullable=False),
    Column("change_number", BigInteger, nullable=False),
    Column("transition", String(16), nullable=False),
    Column("step", BigInteger, nullable=False),
    Column("severity", String(16), nullable=False),
    Column("channel", String(64), nullable=False),
    Column("payload", JSON, nullable=False),
    Column("status", String(16), nullable=False),  # pending | sending | delivered | failed
    Column("attempts", Integer, nullable=False),
    Column("next_attempt_at", Double, nullable=False),
    Column("claimed_by", String(64)),
    Column("last_error", Text),
    Column("created_at", Double, nullable=False),
    Column("delivered_at", Double),
    # Not by what it says: an incident may be escalated twice at one step, as gravely.
    UniqueConstraint("run_id", "incident_number", "change_number", "channel"),
    Index("ix_delivery_status_next_attempt_at", "status", "next_attempt_at"),
)

silence = Table(  # incidents that nobody is alerted of; matchers are exact values or globs
    "silence",
    metadata,
    Column("silence_id", Key, primary_key=True, autoincrement=True),
    Column("project", String(128)),
    Column("run", String(256)),  # the run's id or its name
    Column("kind", String(64)),
    Column("module_group", String(600)),
    Column("starts_at", Double, nullable=False),
    Column("ends_at", Double, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("created_by", String(128), nullable=False),
    Column("reason", String(500), nullable=False),
    Index("ix_silence_ends_at", "ends_at"),
)

withheld = Table(  # an incident with changes that silences kept from being told
    "withheld",
    metadata,
    _run_id(),
    Column("incident_number", Integer, primary_key=True),
    Column("transitions", JSON, nullable=False),  # in the order in which they happened
    Column("since", Double, nullable=False),
    Column("look_at", Double, nullable=False),  # when the silences over it may have ended
    Index("ix_withheld_look_at", "look_at"),
)

detection_rule = Table(
    "detection_rule",
    metadata,
    Column("scope", String(16), primary_key=True),  # project | run
    Column("name", String(128), primary_key=True),  # the project's name, or the run's id
    Column("document", JSON, nullable=False),  # as EngineConfig.from_document takes it
    Column("set_by", String(128), nullable=False),
    Column("set_at", Double, nullable=False),
)

token = Table(
    "token",
    metadata,
    Column("token_id", Key, primary_key=True, autoincrement=True),
    Column("name", String(128), nullable=False),
    Column("hash", String(64), nullable=False, unique=True),
    Column("scopes", JSON, nullable=False),  # ingest | read | admin
    Column("created_at", Double, nullable=False),
    Column("last_used_at", Double),
    Column("revoked_at", Double),
)

audit = Table(
    "audit",
    metadata,
    Column("audit_id", Key, primary_key=True, autoincrement=True),
    Column("at", Double, nullable=False),
    Column("actor", String(128), nullable=False),
    Column("action", String(64), nullable=False),
    Column("target", String(256), nullable=False),
    Column("detail", JSON, nullable=False),
)
