"""What people set of detection for a project or a run, with a line in the audit trail.

Nothing is told to detection: it reads what is in force with the next frames of a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from foreshock_service.detectors.config import EngineConfig
from foreshock_service.domain.detection_rules import RuleScope
from foreshock_service.errors import Unprocessable
from foreshock_service.store import detection_rules, runs
from foreshock_service.store.audit import record
from foreshock_service.store.session import Store, WriteSession

MAX_SENTENCE: Final = 1000
"""A refusal may quote what it refuses, which can be of any length."""


def put(
    store: Store, scope: RuleScope, name: str, document: Mapping[str, Any], *, by: str, now: float
) -> None:
    """Set a configuration document for a project or a run, in place of the one before.

    Raises:
        Unprocessable: the document is none; the message says what is wrong with it.
        NotFound: there is no such run.
    """
    checked = _checked(document)
    with store.write() as session:
        _known(session, scope, name)
        _put(session, scope, name, checked, by=by, now=now)


def remove(store: Store, scope: RuleScope, name: str, *, by: str, now: float) -> None:
    """Set nothing for a project or a run; doing so again changes nothing.

    Raises:
        NotFound: there is no such run.
    """
    with store.write() as session:
        _known(session, scope, name)
        _remove(session, scope, name, by=by, now=now)


def set_sensitivity(
    store: Store, scope: RuleScope, name: str, sensitivity: str | None, *, by: str, now: float
) -> None:
    """Set only the sensitivity, and leave what else is set; None: as if it had not been set.

    Raises:
        Unprocessable: there is no such sensitivity.
        NotFound: there is no such run.
    """
    wanted = {} if sensitivity is None else _checked({"sensitivity": sensitivity})
    with store.write() as session:
        _known(session, scope, name)
        rule = detection_rules.get(session, scope, name)
        others = {} if rule is None else dict(rule.document)
        others.pop("sensitivity", None)
        if others or wanted:
            _put(session, scope, name, {**others, **wanted}, by=by, now=now)
        else:
            _remove(session, scope, name, by=by, now=now)


def _known(session: WriteSession, scope: RuleScope, name: str) -> None:
    if scope is RuleScope.RUN:
        runs.get(session, name)


def _put(
    session: WriteSession,
    scope: RuleScope,
    name: str,
    document: Mapping[str, Any],
    *,
    by: str,
    now: float,
) -> None:
    detection_rules.put(session, scope, name, document, by=by, now=now)
    record(
        session,
        actor=by,
        action="detection.set",
        target=f"{scope}/{name}",
        now=now,
        detail={"document": dict(document)},
    )


def _remove(session: WriteSession, scope: RuleScope, name: str, *, by: str, now: float) -> None:
    if detection_rules.remove(session, scope, name):
        record(session, actor=by, action="detection.reset", target=f"{scope}/{name}", now=now)


def _checked(document: Mapping[str, Any]) -> dict[str, Any]:
    try:
        whole = EngineConfig.from_document(document).to_document()
    except ValueError as error:
        raise Unprocessable(str(error)[:MAX_SENTENCE], code="bad_configuration") from error
    return {key: value for key, value in whole.items() if key in document}
