"""The service's commands; `serve`, which does not end by itself, as a process."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from foreshock_service.settings import ServiceSettings
from foreshock_service.store.session import Store
from foreshock_service.store.tokens import find_token

from tests.commands.running import environment, foreshock

FORESHOCK = [sys.executable, "-m", "foreshock"]


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run one command to its end, as a process."""
    return subprocess.run(
        [*FORESHOCK, *arguments],
        capture_output=True,
        text=True,
        env=environment(**variables),
        check=False,
    )


def test_serve_says_where_it_is_and_ends_cleanly_on_sigterm(tmp_path: Path) -> None:
    """One line on stdout, a page behind it, status 0 at the end."""
    process = subprocess.Popen(
        [*FORESHOCK, "serve", "--port", "0", "--data-dir", str(tmp_path / "data")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment(),
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    url = line.split()[-1]

    assert line.startswith("Foreshock is at http://127.0.0.1:")
    assert httpx.get(f"{url}readyz", trust_env=False).text == "ok"

    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate()
    assert rest == ""
    assert process.returncode == 0


def test_serve_beyond_loopback_without_a_token_says_how_to_make_one(tmp_path: Path) -> None:
    """It does not listen at all, and the command it shows works."""
    refused = run("serve", "--host", "0.0.0.0", "--port", "0", "--data-dir", str(tmp_path))

    assert refused.returncode == 1
    shown = next(line.strip() for line in refused.stderr.splitlines() if "token create" in line)
    made = foreshock(*shown.removeprefix("foreshock ").split())
    assert made.returncode == 0
    assert made.stdout.startswith("fsh_")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "99999"], "FORESHOCK_PORT"),
        (["--database-url", "nonsense"], "database cannot be used"),
        (["--host", "203.0.113.7"], "needs tokens"),
    ],
)
def test_serve_refuses_what_cannot_work_in_one_line(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    """Without a traceback."""
    refused = run("serve", "--data-dir", str(tmp_path), *arguments)

    assert refused.returncode != 0
    assert message in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_secret_in_a_wrong_setting_is_not_shown(tmp_path: Path) -> None:
    """The variable is named, its value is not."""
    refused = run(
        "serve",
        "--data-dir",
        str(tmp_path),
        FORESHOCK_WEBHOOKS='[{"url": "ftp://x", "secret": "whsec_hunter2"}]',
    )

    assert refused.returncode == 2
    assert "FORESHOCK_WEBHOOKS" in refused.stderr
    assert "hunter2" not in refused.stderr


def test_postgresql_that_was_not_migrated_is_told_to_migrate(empty_postgres_url: str) -> None:
    """Then `migrate` brings it there, and a token can be made in it."""
    database = ("--database-url", empty_postgres_url)

    refused = run("serve", *database)
    assert refused.returncode == 1
    assert "foreshock migrate" in refused.stderr

    assert foreshock("migrate", *database).returncode == 0
    assert foreshock("token", "create", "--scope", "read", *database).returncode == 0


def test_migrate_refuses_a_revision_that_does_not_exist(tmp_path: Path) -> None:
    """And says that nothing was changed."""
    refused = foreshock("migrate", "--to", "9999", "--data-dir", str(tmp_path))

    assert refused.returncode == 1
    assert "nothing was changed" in refused.stderr


def test_a_token_is_made_listed_and_revoked(tmp_path: Path) -> None:
    """Its secret is shown once: the list has none."""
    folder = ("--data-dir", str(tmp_path))
    made = foreshock("token", "create", "--name", "node 1", "--scope", "ingest", *folder)
    secret = made.stdout.strip()
    listed = foreshock("token", "list", *folder)
    store = Store(ServiceSettings(data_dir=tmp_path).url())
    with store.read() as session:
        before = find_token(session, secret)

    revoked = foreshock("token", "revoke", "1", *folder)
    again = foreshock("token", "revoke", "1", *folder)

    with store.read() as session:
        after = find_token(session, secret)
    store.close()
    assert before is not None
    assert before.scopes == ("ingest",)
    assert "node 1" in listed.stdout
    assert secret not in listed.stdout
    assert revoked.returncode == 0
    assert again.returncode == 1
    assert after is None
