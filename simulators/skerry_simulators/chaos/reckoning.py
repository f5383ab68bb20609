"""The reckoning: what devices promised against what the fleet stored, sample by sample."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from collections import Counter
from pathlib import Path

from skerry_agent.ledger import Key
from skerry_agent.spool import TOTALS, Totals
from skerry_contracts import codec
from skerry_simulators.chaos.history import Account, Told, read, settle
from skerry_simulators.chaos.plan import KILLS, Harm
from skerry_simulators.chaos.program import Program
from skerry_simulators.chaos.puller import DATABASE
from skerry_simulators.chaos.site import Device, Site

CHANNELS = ("progress", "receipt", "sample", "sketch")
SHOWN = 10


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """What a run came to. `samples` were promised by devices (those of the program included); `lost` and `duplicated`
    must be 0; `given_up` made room within a device's quota, each counted by it; `wrong` says all that should not be.
    `lake` is how many are in the lake; `lives` of devices were begun; `fell`: processes that ended by themselves, and
    were started again.
    """

    samples: int
    stored: int
    spooled: int
    given_up: int
    lost: int
    duplicated: int
    captures: int
    wrong: tuple[str, ...]
    dealt: dict[str, int]
    lake: int
    lives: int
    fell: int = 0
    network: str = ""
    drained: bool = True
    seconds: float = 0.0
    stormy_s: float = 0.0

    @property
    def kills(self) -> int:
        """How many processes were killed."""
        return sum(self.dealt.get(harm, 0) for harm in KILLS)

    @property
    def rate(self) -> float:
        """Samples stored a second, over the whole time of trouble and until all spools were empty."""
        return self.stored / self.stormy_s if self.stormy_s else 0.0


def reckon(site: Site, program: Program, dealt: Counter[Harm]) -> Report:
    """Compare, when every process has ended."""
    wrong: list[str] = []
    total, lost = Counter[str](), 0
    with _read_only(site.street.root / "fleet" / "fleet.db") as fleet:
        for device in site.devices:
            if device.fed:
                account = _account(device, fleet)
                wrong += _words(device, account)
                lost += len(account.lost)
                for name in ("samples", "stored", "spooled", "given_up"):
                    total[name] += getattr(account, name)
            wrong += _sums(device)
        promised, missing = _captures(site, program, fleet)
        query = "SELECT coalesce(sum(n - 1), 0) FROM (SELECT count(*) AS n FROM sample GROUP BY device, boot_id, seq)"
        twice = fleet.execute(query).fetchone()[0] + _predicted_twice(fleet)
        in_lake, astray = _lake(site, fleet)
        letters = fleet.execute("SELECT reason, count(*) FROM dead_letter GROUP BY reason LIMIT ?", (SHOWN,)).fetchall()
    wrong += [f"{site.devices[-1].name}: capture {name} was kept, and is nowhere" for name in missing[:SHOWN]]
    wrong += [f"{count} dead letters: {reason}" for reason, count in letters]
    if astray:
        wrong.append(f"{astray} samples are in the fleet's store and not in the lake, or the other way round")
    if twice:
        wrong.append(f"{twice} samples are stored twice")
    return Report(
        samples=total["samples"] + promised,
        stored=total["stored"] + promised - len(missing),
        spooled=total["spooled"],
        given_up=total["given_up"],
        lost=lost + len(missing),
        duplicated=twice,
        captures=promised,
        wrong=tuple(wrong),
        dealt={harm.value: count for harm, count in sorted(dealt.items())},
        lake=in_lake,
        lives=sum(device.lives for device in site.devices),
    )


def waiting(root: Path) -> int:
    """Return how many messages wait in a device's spool; -1 where it cannot be asked at the moment."""
    try:
        with _read_only(root / "state.db") as ledger:
            return int(ledger.execute("SELECT count(*) FROM spool").fetchone()[0])
    except sqlite3.OperationalError:
        return -1


def behind(site: Site) -> int:
    """Return how many samples the lake has not taken in; -1 where that cannot be told at the moment."""
    try:
        with _read_only(site.street.root / "fleet" / "fleet.db") as fleet, _read_only(site.cloud / DATABASE) as lake:
            newest = fleet.execute("SELECT coalesce(max(id), 0) FROM sample").fetchone()[0]
            cursor = lake.execute("SELECT value FROM cursor WHERE feed = 'samples'").fetchone()
            return int(newest) - int(cursor[0] if cursor else 0)
    except sqlite3.OperationalError:
        return -1


def _lake(site: Site, fleet: sqlite3.Connection) -> tuple[int, int]:
    """Return how many samples the lake holds, and how many are in only one of both."""
    query = "SELECT device, boot_id, seq FROM sample"
    with _read_only(site.cloud / DATABASE) as lake:
        found = set(lake.execute(query))
        cursor = lake.execute("SELECT value FROM cursor WHERE feed = 'samples'").fetchone()
    # What stands after the cursor is only late.
    wanted = set(fleet.execute(f"{query} WHERE id <= ?", (int(cursor[0]) if cursor else 0,)))
    return len(found), len(found ^ wanted)


def _read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5.0)


def _account(device: Device, fleet: sqlite3.Connection) -> Account:
    told = _told(device)
    stored: set[Key] = set()
    for channel in CHANNELS:
        stored.update(fleet.execute(f"SELECT boot_id, seq FROM {channel} WHERE device = ?", (device.name,)))
    return settle(told, stored, _spooled(device), _totals(device).dropped)


def _told(device: Device) -> Told:
    with device.history.open() as lines:
        return read(lines)


def _spooled(device: Device) -> set[Key]:
    with _read_only(device.root / "state.db") as ledger:
        return set(ledger.execute("SELECT boot_id, seq FROM spool"))


def _totals(device: Device) -> Totals:
    with _read_only(device.root / "state.db") as ledger:
        row = ledger.execute("SELECT value FROM memory WHERE key = ?", (TOTALS,)).fetchone()
    return codec.decode(Totals, row[0]) if row else Totals()


def _words(device: Device, account: Account) -> list[str]:
    found = []
    if account.lost:
        found.append(f"{device.name}: {len(account.lost)} lost, as {account.lost[:3]}")
    if account.forged:
        found.append(f"{device.name}: {len(account.forged)} stored that it never kept, as {account.forged[:3]}")
    if account.uncounted:
        found.append(f"{device.name}: {account.uncounted} were given up without being counted")
    return found


def _sums(device: Device) -> list[str]:
    totals, left = _totals(device), len(_spooled(device))
    if totals.made == totals.acked + totals.dropped + left:
        return []
    return [
        f"{device.name}: made {totals.made} is not acked {totals.acked} + dropped {totals.dropped} + {left} waiting"
    ]


def _captures(site: Site, program: Program, fleet: sqlite3.Connection) -> tuple[int, list[str]]:
    """Return how many captures the program was promised, and those that are nowhere."""
    device = site.devices[-1]
    with _read_only(device.root / "state.db") as ledger:
        rows = ledger.execute("SELECT payload FROM spool WHERE channel = 'sample'").fetchall()
    rows += fleet.execute("SELECT record FROM sample WHERE device = ?", (device.name,)).fetchall()
    found = {json.loads(record).get("capture") for (record,) in rows}
    return len(program.kept), sorted(program.kept - found)


def _predicted_twice(fleet: sqlite3.Connection) -> int:
    """Return how many samples tell of a prediction that another one has told of."""
    query = "SELECT count(*) - count(DISTINCT json_extract(record, '$.prediction')) FROM sample"
    return int(fleet.execute(query).fetchone()[0])
