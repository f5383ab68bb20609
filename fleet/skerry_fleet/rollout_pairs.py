"""The pairs that a rollout's gate has counted, a row each: the evidence, for a restart and for people."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from sqlmodel import Field, Session, SQLModel, col, func, select

from skerry_fleet.comparison import Gate, Pair, Watched
from skerry_fleet.evidence import CERTAIN, Measure, Score, combined
from skerry_fleet.paging import Page, listing
from skerry_fleet.tables import ROW_ID, Rollout, big


class RolloutPair(SQLModel, table=True):
    """Two devices at the same time: `device` with the bundle, `control` without it. By each measure 1 where the first
    did worse, -1 better, 0 neither; None: it could not be said. `figures` (JSON) is what each did before and then.
    """

    __tablename__ = "rollout_pair"

    id: int | None = Field(default=None, primary_key=True, sa_type=ROW_ID)
    tenant: str
    rollout: str = Field(index=True)
    device: str
    control: str
    failing: int | None = None
    error_rate: int | None = None
    latency: int | None = None
    confidence: int | None = None
    figures: str = "{}"
    ended_ms: int = big()


def note(session: Session, tenant: str, rollout: str, now: float, pair: Pair, signs: dict[Measure, int]) -> None:
    """Keep a pair that was counted."""
    figures = json.dumps({"device": _figures(pair.with_bundle), "control": _figures(pair.without)})
    words = {measure.value: sign for measure, sign in signs.items()}
    row = RolloutPair(
        tenant=tenant, rollout=rollout, device=pair.treated, control=pair.control, figures=figures, **words
    )
    row.ended_ms = int(now * 1000)
    session.add(row)


def scores(session: Session, tenant: str, rollout: str) -> dict[Measure, Score]:
    """Return what the pairs so far came to."""
    found = {measure: Score() for measure in Measure}
    for measure, score in found.items():
        sign = col(getattr(RolloutPair, measure.value))
        query = select(sign, func.count()).where(RolloutPair.tenant == tenant, RolloutPair.rollout == rollout)
        for value, count in session.exec(query.where(sign.is_not(None)).group_by(sign)).all():
            name = "worse" if value > 0 else "better" if value < 0 else "same"
            setattr(score, name, count)
    return found


def evidence(session: Session, row: Rollout) -> dict[str, Any]:
    """Return how strong the evidence for harm is, and how much would take the rollout back."""
    gate = Gate(**json.loads(row.options).get("gate", {}))
    found = scores(session, row.tenant, row.id)
    return {
        "alpha": gate.alpha,
        "needed": 1 / gate.alpha if gate.alpha else None,
        "value": min(CERTAIN, combined(found)),
        "measures": {
            measure.value: {"worse": each.worse, "better": each.better, "same": each.same, "value": each.value}
            for measure, each in found.items()
        },
    }


def list_pairs(session: Session, row: Rollout, page: Page) -> dict[str, Any]:
    """Return one page of the pairs, newest first.

    Raises:
        InputError: not a cursor.
    """
    query = select(RolloutPair).where(RolloutPair.tenant == row.tenant, RolloutPair.rollout == row.id)
    if page.after_id is not None:
        query = query.where(col(RolloutPair.id) < page.after_id)
    rows: Iterable[RolloutPair] = session.exec(query.order_by(col(RolloutPair.id).desc()).limit(page.limit + 1)).all()
    return listing(list(rows), page, _view, lambda each: each.id)


def _view(row: RolloutPair) -> dict[str, Any]:
    return {**row.model_dump(exclude={"tenant", "rollout"}), "figures": json.loads(row.figures)}


def _figures(watched: Watched) -> dict[str, Any]:
    before = watched.before
    return {
        "errors": [before.errors, watched.errors],
        "predictions": [before.predictions, watched.predictions],
        "latency_ms": [before.latency_p95_ms, round(watched.latency_ms / max(1, watched.predictions), 3)],
        "confidence": [
            before.mean_confidence,
            round(watched.confidence / watched.confident, 4) if watched.confident else None,
        ],
    }
