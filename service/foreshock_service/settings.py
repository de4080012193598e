"""Every setting of the service: an argument, a `FORESHOCK_*` variable, or a default that is right.

This is the only place that reads the environment.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

GIB = 1 << 30
MIB = 1 << 20


class Webhook(BaseModel):
    """One place that is told of incidents by a signed POST."""

    name: str = Field(default="webhook", pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")
    url: str = Field(pattern=r"^https?://")
    secret: SecretStr
    """Signing key, `whsec_` and base64, as in the Standard Webhooks specification."""


class ServiceSettings(BaseSettings):
    """Settings of one service process; each field is also the variable `FORESHOCK_<NAME>`."""

    model_config = SettingsConfigDict(env_prefix="FORESHOCK_", env_nested_delimiter="__")

    host: str = "127.0.0.1"
    """Address to listen on. Anything but loopback requires tokens."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8712
    """Port to listen on; 0 takes a free one."""
    data_dir: Path = Path("foreshock-data")
    """Folder of the embedded database; made if missing."""
    database_url: str | None = None
    """SQLAlchemy URL; None is SQLite in `data_dir`."""
    public_url: str | None = None
    """Address of this service as people reach it, for links in alerts; None: the bound one."""
    allowed_hosts: list[str] = []
    """Host headers accepted besides loopback names and the bound address."""
    require_token: bool | None = None
    """Ask for a token; None: only when not bound to loopback."""
    max_body_bytes: Annotated[int, Field(ge=1024)] = 64 * MIB
    """Largest request body, as sent."""
    max_decoded_bytes: Annotated[int, Field(ge=1024)] = 256 * MIB
    """Largest request body after decompression."""
    ingest_queue_batches: Annotated[int, Field(ge=1)] = 256
    """Batches waiting for the writer; beyond it clients are told to come back later (429)."""
    retention_days: Annotated[float, Field(gt=0)] = 30.0
    """Full-resolution statistics are kept this long; coarser tiers, incidents and scalars stay."""
    disk_budget_bytes: Annotated[int, Field(ge=16 * MIB)] = 20 * GIB
    """Beyond this size the oldest full-resolution statistics go first."""
    webhooks: list[Webhook] = []
    """Places to tell of incidents, as JSON."""
    webhook_timeout_seconds: Annotated[float, Field(gt=0)] = 10.0
    """How long a receiver may take to answer."""
    webhook_max_attempts: Annotated[int, Field(ge=1)] = 12
    """Deliveries are retried with growing pauses, over about a day, before they are given up."""
    detect_interval_seconds: Annotated[float, Field(gt=0)] = 0.25
    """How often detection looks for new frames when nobody wakes it."""
    silent_seconds: Annotated[float, Field(ge=0, le=43_200)] = 120.0
    """A running run that sends nothing for this long, or longer if it steps slowly, is silent; 0
    watches for none."""

    def url(self) -> str:
        """The database URL in force."""
        if self.database_url is not None:
            return self.database_url
        return f"sqlite:///{(self.data_dir / 'foreshock.db').absolute()}"

    def address(self) -> str:
        """Where people reach the service, ending in a slash.

        The public address, or the bound one with a host that a browser on this machine can open.
        """
        if self.public_url:
            return self.public_url.rstrip("/") + "/"
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::", "") else self.host.strip("[]")
        return f"http://[{host}]:{self.port}/" if ":" in host else f"http://{host}:{self.port}/"

    def channels(self) -> list[str]:
        """Names of the places to tell: what the outbox files alerts under, and notifiers are
        called by."""
        return [webhook.name for webhook in self.webhooks]

    def tokens_required(self) -> bool:
        """Whether a request without a token is refused."""
        if self.require_token is not None:
            return self.require_token
        return self.host not in ("127.0.0.1", "::1", "localhost")


class SenderSettings(BaseSettings):
    """What a command needs that sends to a running service, as the client does."""

    model_config = SettingsConfigDict(env_prefix="FORESHOCK_")

    token: SecretStr | None = None
    """Token with the scope ingest; the client's setting of the same name."""
