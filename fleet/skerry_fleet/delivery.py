"""The outbox emptied: at least once, with the same bytes and id each time, later and later while a target refuses.

A message is marked as sent after its target took it, so a crash between the two sends it again, and whoever receives it
can tell by its id. Messages of one incident reach a route in their order.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import func
from sqlmodel import Session, col, select

from skerry_fleet import webhooks
from skerry_fleet.config import Clock
from skerry_fleet.database import Database
from skerry_fleet.errors import UnavailableError
from skerry_fleet.incident_tables import Notice, Route
from skerry_fleet.notices import GIVEN_UP, SENT, WAITING
from skerry_fleet.vault import opened_route

FIRST_WAIT_S, LAST_WAIT_S = 5.0, 3600.0
GIVE_UP_S = 86_400.0
AT_ONCE = 4
"""Messages under way at the same time."""

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """One message to send, and to whom: its route as the database has it, sealed."""

    notice: int
    event: str
    title: str
    body: str = dataclasses.field(repr=False)
    route: Route = dataclasses.field(repr=False)


def due(session: Session, now: float, most: int = AT_ONCE) -> list[Job]:
    """Return the messages to send now: of each incident and route the oldest that waits."""
    first = (
        select(func.min(col(Notice.id)))
        .where(Notice.status == WAITING)
        .group_by(col(Notice.tenant), col(Notice.route), col(Notice.incident))
    )
    joined = (col(Route.tenant) == col(Notice.tenant)) & (col(Route.name) == col(Notice.route))
    query = (
        select(Notice, Route)
        .join(Route, joined)
        .where(col(Notice.id).in_(first), Notice.due_ms <= int(now * 1000))
        .order_by(col(Notice.due_ms))
        .limit(most)
    )
    return [
        Job(int(notice.id or 0), notice.event, notice.title, notice.body, route)
        for notice, route in session.exec(query).all()
    ]


def settle(session: Session, now: float, notice: int, problem: str) -> None:
    """Note what became of a message: sent, to be tried again, or given up after a day."""
    row = session.get(Notice, notice)
    if row is None or row.status != WAITING:  # its route was deleted meanwhile
        return
    now_ms = int(now * 1000)
    row.tries, row.problem = row.tries + 1, problem
    if not problem:
        row.status, row.due_ms = SENT, now_ms
    elif now_ms - row.made_ms >= GIVE_UP_S * 1000:
        row.status = GIVEN_UP
        log.error("given up after %d tries: %s to route %s: %s", row.tries, row.event, row.route, problem)
    else:
        row.due_ms = now_ms + int(1000 * min(FIRST_WAIT_S * 2.0 ** min(row.tries - 1, 20), LAST_WAIT_S))
        log.warning("not told yet: %s to route %s: %s", row.event, row.route, problem)
    session.add(row)


def send(database: Database, clock: Clock, job: Job, reach: str) -> str:
    """Send one message and note what became of it; return what went wrong."""
    try:
        with database.read() as session:
            target, secret = opened_route(session, job.route)
        problem = webhooks.send(target, secret, job.event, job.title, job.body, clock(), reach)
    except UnavailableError as error:
        problem = f"{error}: {error.hint}"
    with database.write() as session:
        settle(session, clock(), job.notice, problem)
    return problem


class Deliverer:
    """Sends what is due, in threads of its own: a target that does not answer holds up nothing but other messages."""

    def __init__(self, database: Database, clock: Clock, look_s: float, reach: str) -> None:
        self._database = database
        self._clock = clock
        self._look_s = look_s
        self._reach = reach
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="notice")

    async def run_forever(self) -> None:
        """Look for messages, send them, look again."""
        loop = asyncio.get_running_loop()
        while True:
            jobs = await loop.run_in_executor(self._pool, self._due)
            await asyncio.gather(
                *(loop.run_in_executor(self._pool, send, self._database, self._clock, job, self._reach) for job in jobs)
            )
            if not jobs:
                await asyncio.sleep(self._look_s)

    def close(self) -> None:
        """Begin nothing more; what is under way ends by its own limits."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _due(self) -> Sequence[Job]:
        with self._database.read() as session:
            return due(session, self._clock())
