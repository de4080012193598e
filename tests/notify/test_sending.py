"""Alerts on their way to a receiver that is a real process, and may be slow, broken or dead."""

from __future__ import annotations

import random
import subprocess
import sys
from typing import Any

import pytest
from foreshock_service.notifiers.registry import build_notifiers
from foreshock_service.pipeline.notify import Notify
from foreshock_service.settings import ServiceSettings
from foreshock_service.store.session import Store
from foreshock_service.store.tables import delivery
from sqlalchemy import Row, select

from tests.notify.conftest import (
    NOW,
    ROOT,
    SECRET,
    Clock,
    StartReceiver,
    await_file,
    put_alert,
    settings_for,
)


def notify(store: Store, settings: ServiceSettings, clock: Clock) -> Notify:
    return Notify(store, settings, build_notifiers(settings), clock=clock, chance=random.Random(1))


def rows(store: Store) -> list[Row[Any]]:
    with store.read() as session:
        query = select(delivery).order_by(delivery.c.delivery_id)
        return list(session.connection.execute(query))


def test_an_alert_arrives_signed_with_its_sentence_and_link(
    store: Store, start_receiver: StartReceiver
) -> None:
    """The receiver verifies the signature with the public library; numbers JSON lacks are words."""
    receiver = start_receiver("ok")
    put_alert(store)
    settings = settings_for(receiver.url, public_url="https://watch.example/")

    assert notify(store, settings, Clock()).run_once() == 1

    (received,) = receiver.received()
    message = received["message"]
    assert received["id"] == message["id"]
    assert message["type"] == "incident.opened"
    assert message["sentence"] == "blocks.3.attn exploded."
    assert message["url"] == "https://watch.example/runs/r1/incidents/1"
    assert message["explanation"] == "https://watch.example/incidents/kinds/explosion"
    assert message["withheld_since"] is None
    assert message["incident"]["departures"][0]["ratio"] == "inf"
    assert message["incident"]["evidence"] == {"value": "nan"}
    assert rows(store)[0].status == "delivered"


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "http://127.0.0.1:4321"),
        ("0.0.0.0", "http://127.0.0.1:4321"),
        ("::1", "http://[::1]:4321"),
        ("watch.example", "http://watch.example:4321"),
    ],
)
def test_a_link_without_a_public_address_is_one_that_a_browser_opens(
    sqlite_store: Store, start_receiver: StartReceiver, host: str, address: str
) -> None:
    """The bound host and port, with the brackets of an IPv6 address."""
    receiver = start_receiver("ok")
    put_alert(sqlite_store)
    settings = settings_for(receiver.url, host=host, port=4321)

    notify(sqlite_store, settings, Clock()).run_once()

    (received,) = receiver.received()
    assert received["message"]["url"] == f"{address}/runs/r1/incidents/1"


def test_a_delivered_alert_is_not_sent_again(store: Store, start_receiver: StartReceiver) -> None:
    """Another round finds nothing, at whatever time."""
    receiver, clock = start_receiver("ok"), Clock()
    put_alert(store)
    sender = notify(store, settings_for(receiver.url), clock)
    sender.run_once()
    clock.now += 1e6

    assert sender.run_once() == 0
    assert len(receiver.received()) == 1


def test_the_same_change_is_enqueued_once_a_channel(store: Store) -> None:
    """Detection may repeat its work after a kill."""
    assert put_alert(store, channels=("a", "b")) == 2
    assert put_alert(store, channels=("a", "b")) == 0


def test_the_next_change_is_another_alert_though_it_says_the_same(store: Store) -> None:
    """At the same step, as gravely: a silent run stands at one step, and a resumed one repeats."""
    assert put_alert(store, num_changes=1) == 1
    assert put_alert(store, num_changes=2) == 1
    assert [row.change_number for row in rows(store)] == [1, 2]


def test_a_failing_receiver_is_tried_again_later_with_the_same_id(
    store: Store, start_receiver: StartReceiver
) -> None:
    """The pauses grow, and the message that arrives at last has the id of the first attempt."""
    failing, clock = start_receiver("fail"), Clock()
    put_alert(store)
    sender = notify(store, settings_for(failing.url), clock)
    pauses = []
    for _ in range(3):
        assert sender.run_once() == 1
        assert sender.run_once() == 0
        pauses.append(rows(store)[0].next_attempt_at - clock.now)
        clock.now = rows(store)[0].next_attempt_at
    failing.kill()
    repaired = start_receiver("ok", failing.port)

    assert sender.run_once() == 1

    ids = {item["id"] for item in failing.received() + repaired.received()}
    assert len(ids) == 1
    assert len(failing.received()) == 3
    assert pauses[0] < pauses[1] < pauses[2]
    assert "503" in rows(store)[0].last_error
    assert rows(store)[0].status == "delivered"


def test_a_receiver_that_is_gone_loses_nothing(store: Store, start_receiver: StartReceiver) -> None:
    """A refused connection is a reason to try again, not to give up."""
    receiver = start_receiver("ok")
    receiver.kill()
    put_alert(store)

    notify(store, settings_for(receiver.url), Clock()).run_once()

    assert rows(store)[0].status == "pending"


@pytest.mark.parametrize("mode", ["hang", "drip"])
def test_a_receiver_that_hangs_is_left_after_the_timeout(
    sqlite_store: Store, start_receiver: StartReceiver, mode: str
) -> None:
    """Also one that keeps the connection busy without ever answering."""
    receiver = start_receiver(mode)
    put_alert(sqlite_store)

    notify(
        sqlite_store, settings_for(receiver.url, webhook_timeout_seconds=0.5), Clock()
    ).run_once()

    assert rows(sqlite_store)[0].status == "pending"
    assert "no answer within" in rows(sqlite_store)[0].last_error


@pytest.mark.parametrize("mode", ["refuse", "redirect"])
def test_a_final_answer_ends_the_attempts(
    sqlite_store: Store, start_receiver: StartReceiver, mode: str
) -> None:
    """A redirect is such an answer, and is not followed."""
    receiver = start_receiver(mode)
    put_alert(sqlite_store)

    notify(sqlite_store, settings_for(receiver.url), Clock()).run_once()

    assert [item["path"] for item in receiver.received()] == ["/hook"]
    assert rows(sqlite_store)[0].status == "failed"


def test_attempts_end_at_their_number(store: Store, start_receiver: StartReceiver) -> None:
    """After the last one the alert is marked as failed, with the reason."""
    receiver, clock = start_receiver("fail"), Clock()
    put_alert(store)
    sender = notify(store, settings_for(receiver.url, webhook_max_attempts=2), clock)
    for _ in range(4):
        sender.run_once()
        clock.now += 1e6

    assert len(receiver.received()) == 2
    assert rows(store)[0].status == "failed"


def test_a_sender_killed_while_sending_is_taken_over_with_the_same_id(
    store: Store, database_url: str, start_receiver: StartReceiver
) -> None:
    """kill -9 between the POST and its answer: the claim runs out, and the message comes again."""
    hanging, clock = start_receiver("hang"), Clock()
    put_alert(store)
    command = [sys.executable, "-m", "tests.notify.sender", database_url, hanging.url, SECRET]
    killed = subprocess.Popen(command, cwd=ROOT)
    await_file(hanging.folder / "received")
    killed.kill()
    killed.wait()
    hanging.kill()
    receiver = start_receiver("ok", hanging.port)
    sender = notify(store, settings_for(receiver.url), clock)
    clock.now = rows(store)[0].next_attempt_at - 1

    assert rows(store)[0].status == "sending"
    assert sender.run_once() == 0
    clock.now += 2
    assert sender.run_once() == 1

    assert hanging.received()[0]["id"] == receiver.received()[0]["id"]
    assert rows(store)[0].status == "delivered"


def test_two_senders_share_an_outbox_without_sending_twice(
    store: Store, start_receiver: StartReceiver
) -> None:
    """A claim is a compare-and-set: who comes second gets nothing."""
    receiver = start_receiver("ok")
    for number in range(1, 9):
        put_alert(store, number=number)
    senders = [notify(store, settings_for(receiver.url), Clock()) for _ in range(2)]

    assert sum(sender.run_once() for sender in senders) == 8
    assert len({item["id"] for item in receiver.received()}) == len(receiver.received()) == 8


def test_an_alert_for_a_channel_that_is_not_set_up_waits(sqlite_store: Store) -> None:
    """The settings may come back; the error says what to add."""
    put_alert(sqlite_store, channels=("pager",))

    Notify(sqlite_store, ServiceSettings(), {}, clock=Clock()).run_once()

    row = rows(sqlite_store)[0]
    assert row.status == "pending"
    assert row.next_attempt_at > NOW
    assert "FORESHOCK_WEBHOOKS" in row.last_error


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_a", "whsec_ä"])
def test_a_secret_that_cannot_sign_is_refused_at_the_start(secret: str) -> None:
    """Not when the first alert is due at night."""
    settings = settings_for("http://127.0.0.1:1/")
    broken = settings.webhooks[0].model_copy(
        update={"secret": type(settings.webhooks[0].secret)(secret)}
    )

    with pytest.raises(ValueError, match="whsec_"):
        build_notifiers(settings.model_copy(update={"webhooks": [broken]}))


def test_two_webhooks_of_one_name_are_refused() -> None:
    """The outbox tells places apart by their name."""
    settings = settings_for("http://127.0.0.1:1/")

    with pytest.raises(ValueError, match="name of its own"):
        build_notifiers(settings.model_copy(update={"webhooks": settings.webhooks * 2}))
