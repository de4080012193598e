"""Detection rules as rows, one for a project or a run that has any."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import and_, delete, or_, select

from foreshock_service.domain.detection_rules import DetectionRule, RuleScope
from foreshock_service.domain.runs import Run
from foreshock_service.store.session import ReadSession, WriteSession
from foreshock_service.store.tables import detection_rule
from foreshock_service.store.writing import upsert


def get(session: ReadSession, scope: RuleScope, name: str) -> DetectionRule | None:
    """What is set for a project or a run; None where nothing is."""
    return _found(session, {scope: name}).get(scope)


def of_run(session: ReadSession, run: Run) -> tuple[DetectionRule | None, DetectionRule | None]:
    """What is set for the run's project, and for the run itself."""
    found = _found(session, {RuleScope.PROJECT: run.project, RuleScope.RUN: run.run_id})
    return found.get(RuleScope.PROJECT), found.get(RuleScope.RUN)


def put(
    session: WriteSession,
    scope: RuleScope,
    name: str,
    document: Mapping[str, Any],
    *,
    by: str,
    now: float,
) -> None:
    """Set what counts for a project or a run, in place of what was set before."""
    row = {
        "scope": str(scope),
        "name": name,
        "document": dict(document),
        "set_by": by[:128],
        "set_at": now,
    }
    upsert(session, detection_rule, [row], update=["document", "set_by", "set_at"])


def remove(session: WriteSession, scope: RuleScope, name: str) -> bool:
    """Set nothing for a project or a run any more; whether something was set."""
    statement = delete(detection_rule).where(
        detection_rule.c.scope == str(scope), detection_rule.c.name == name
    )
    return session.connection.execute(statement).rowcount == 1


def _found(session: ReadSession, names: Mapping[RuleScope, str]) -> dict[RuleScope, DetectionRule]:
    wanted = [
        and_(detection_rule.c.scope == str(scope), detection_rule.c.name == name)
        for scope, name in names.items()
    ]
    rows = session.connection.execute(select(detection_rule).where(or_(*wanted)))
    return {
        RuleScope(row.scope): DetectionRule(
            scope=RuleScope(row.scope),
            name=row.name,
            document=row.document,
            set_by=row.set_by,
            set_at=row.set_at,
        )
        for row in rows
    }
