"""A fleet that is asked to stop, and one that a newer version replaces, with devices connected: nothing is lost."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from tests.fleet.broker.conftest import DEADLINE_S, eventually
from tests.fleet.broker.test_joined import free_port, joined
from tests.fleet.conftest import admin, make_bundle
from tests.fleet.test_app import BOOT, Device, households
from tests.fleet.test_app import eventually as soon
from tests.fleet.test_app import live as live

from skerry_contracts.sample import Kept, Sample
from skerry_fleet.migrations import upgrade
from skerry_fleet.mqtt.errors import MqttError
from skerry_fleet.sql.dialect import open_dialect

MESSAGES = 300


def sample(device: Device, seq: int) -> Sample:
    fields = ("digits", "1", "0" * 64, "v", Kept.RANDOM, 1.0, (), ())
    return Sample(BOOT, seq, 0.0, f"{device.name}/{BOOT}/{seq}", *fields)


def test_what_has_arrived_is_committed_and_acknowledged_before_the_fleet_ends(live: FastAPI, tmp_path: Path) -> None:
    """The commit of the first messages is held; the rest wait in memory when the fleet is asked to stop."""
    held, go = threading.Event(), threading.Event()
    commit = live.state.fleet.core.commit

    def slowly() -> Any:
        if held.is_set():
            go.wait(DEADLINE_S)
        return commit()

    live.state.fleet.core.commit = slowly
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def run(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(DEADLINE_S)

    async def enrolled(http: httpx.Client) -> Device:
        (device,) = [each async for each in households(http, tmp_path, 1)]
        return device

    async def said(device: Device) -> None:
        for seq in range(1, MESSAGES + 1):
            await device.say("sample", sample(device, seq))

    try:
        with contextlib.ExitStack() as stack:
            http = stack.enter_context(admin(live))
            eventually(lambda: http.get("/readyz").status_code == 200, "the fleet is at its broker")
            device = run(enrolled(http))
            run(device.connect(1))
            listening = asyncio.run_coroutine_threadsafe(device.live(), loop)
            held.set()
            run(said(device))  # the broker has every one of them
            metrics = live.state.fleet.metrics
            eventually(lambda: metrics.waiting() > 0, "messages wait behind the one that is committed")
            waited = threading.Timer(0.3, go.set)  # the stop below is asked for while the commit is held
            waited.start()
            stack.pop_all().close()
        assert live.state.broker.processes[0].pid is None
        eventually(lambda: len(device.acked) > 1, "acknowledgements have come")
        rows = sqlite3.connect(tmp_path / "fleet" / "fleet.db").execute("SELECT seq FROM sample").fetchall()
        assert {seq for (seq,) in rows} == device.acked, "committed is acknowledged, and acknowledged is committed"
        assert len(device.acked) > 1 and metrics.waiting() == 0
        listening.cancel()
        with contextlib.suppress(concurrent.futures.CancelledError):
            listening.result(DEADLINE_S)
        device.link.abort()
    finally:
        go.set()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextlib.contextmanager
def served(root: Path, port: int, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """`skerry fleet serve` as a process."""
    command = [sys.executable, "-m", "skerry", "fleet", "serve", "--root", str(root), "--port", str(port)]
    with (root.parent / "fleet.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **environment})
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def as_the_first_version_left_it(path: Path) -> int:
    """Rewrite a database in the tables of the first step, with all that those can hold; return its rows."""
    old = path.with_name("old.db")
    dialect = open_dialect(f"sqlite:///{old}")
    with dialect.writer.begin() as connection:
        upgrade.bring(connection, upgrade.FIRST)
    dialect.close()
    rows = 0
    with contextlib.closing(sqlite3.connect(old)) as database:
        database.execute("ATTACH ? AS new", (str(path),))
        tables = [name for (name,) in database.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'")]
        for table in tables:
            if table == "alembic_version" or table.startswith("sqlite_"):
                continue
            there = {row[1] for row in database.execute(f"PRAGMA new.table_info({table})")}
            if not there:
                continue
            # What is no more is written as that version wrote it where there was nothing to say.
            taken = {
                f'"{name}"': f'"{name}"' if name in there else "0" if "INT" in kind else "''"
                for _, name, kind, *_ in database.execute(f"PRAGMA main.table_info({table})")
            }
            database.execute(f"DELETE FROM main.{table}")
            words = f"INSERT INTO main.{table} ({', '.join(taken)}) SELECT {', '.join(taken.values())} FROM new.{table}"
            rows += database.execute(words).rowcount
        database.commit()
    for each in path.parent.glob("fleet.db*"):
        each.unlink()
    old.replace(path)
    return rows


async def beating(device: Device, until: asyncio.Event) -> None:
    """Send each sample until it is acknowledged, and heartbeats, whatever becomes of the fleet."""
    seqs = range(100_001, 100_001 + MESSAGES)
    while not until.is_set() or not device.acked.issuperset(seqs):
        try:
            for seq in seqs:
                if seq not in device.acked:
                    await device.say("sample", sample(device, seq))
                    await asyncio.sleep(0.005)
            await device.beat()
            await asyncio.sleep(0.2)
        except MqttError:
            await device.connect(device.next())


def test_an_upgrade_with_devices_connected_loses_nothing_and_the_rollout_goes_on(tmp_path: Path) -> None:
    """The brokers stand outside the fleet, as in fleet/deploy: devices do not even notice."""
    asyncio.run(_upgraded(tmp_path))


async def _upgraded(tmp_path: Path) -> None:
    port, api, root = free_port(), free_port(), tmp_path / "fleet"
    for name in ("token", "fleet-token"):
        (tmp_path / name).write_text("a secret")
    environment = {
        "SKERRY_FLEET_BROKER": "external",
        "SKERRY_FLEET_BROKER_URLS": f"mqtts://127.0.0.1:{port}",
        "SKERRY_FLEET_BROKER_TOKEN_FILE": str(tmp_path / "fleet-token"),
    }
    url = f"http://127.0.0.1:{api}"

    def ready() -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{url}/readyz", trust_env=False).status_code == 200
        return False

    with joined(url, tmp_path, port, "embedded"), contextlib.ExitStack() as stack:
        process = stack.enter_context(served(root, api, environment))
        await soon(ready, "the fleet is ready")
        key = {"authorization": f"Bearer {(root / 'admin.key').read_text().strip()}"}
        http = stack.enter_context(httpx.Client(base_url=url, headers=key, trust_env=False, timeout=30))

        def get(path: str) -> Any:
            return http.get(f"/api/v1{path}").json()

        (tmp_path / "devices").mkdir()
        devices = [device async for device in households(http, tmp_path / "devices", 3)]
        until = asyncio.Event()
        tasks = []
        for device in devices[:2]:
            await device.connect(1)
            tasks += [asyncio.create_task(device.live()), asyncio.create_task(beating(device, until))]
        http.post("/api/v1/models", json={"name": "digits"})
        bundle = http.post("/api/v1/models/digits/bundles", content=make_bundle()).json()["id"]
        plan = {"model": "digits", "bundle": bundle, "canary": 1, "soak_s": 0}
        rollout = http.post("/api/v1/rollouts", json=plan).json()["id"]
        await soon(lambda: get(f"/rollouts/{rollout}")["counts"]["confirmed"] == 2, "two devices have it")
        await soon(lambda: all(each.acked for each in devices[:2]), "samples are under way")
        stream = stack.enter_context(http.stream("GET", "/api/v1/events"))
        lines = stream.iter_lines()
        assert await asyncio.to_thread(next, lines) == ": skerry"
        process.send_signal(signal.SIGTERM)
        told = await asyncio.to_thread(list, lines)
        assert all(line.split(":")[0] in ("", "id", "event", "data") for line in told), "the stream ends between events"
        assert await asyncio.to_thread(process.wait, DEADLINE_S) == 0, "it ends by itself, and in order"
        assert "Traceback" not in (tmp_path / "fleet.log").read_text()
        assert as_the_first_version_left_it(root / "fleet.db") > 20
        stack.enter_context(served(root, api, environment))
        await soon(ready, "the newer version is ready")
        until.set()
        await soon(lambda: all(task.done() for task in tasks[1::2]), "every sample is acknowledged")
        assert [device.link is not None and device.link.connected for device in devices[:2]] == [True, True]
        late = devices[2]
        await late.connect(1)
        tasks.append(asyncio.create_task(late.live()))
        await late.beat()
        await soon(lambda: get(f"/rollouts/{rollout}")["counts"]["confirmed"] == 3, "the rollout reaches the late one")
        assert late.running == bundle and get("/audit/verify")["broken_at"] is None
        for task in tasks:
            task.cancel()
        for device in devices:
            device.link.abort()  # type: ignore[union-attr]  # connected above
    with contextlib.closing(sqlite3.connect(root / "fleet.db")) as database:
        found = database.execute("SELECT device, count(DISTINCT seq), count(*) FROM sample GROUP BY device").fetchall()
    assert found == [("d0", MESSAGES, MESSAGES), ("d1", MESSAGES, MESSAGES)], "each sample once"


def test_a_broker_that_dies_at_the_start_is_told_in_one_line(tmp_path: Path) -> None:
    broken = tmp_path / "bin" / "mosquitto"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\necho 'no more memory' >&2\nexit 3\n")
    broken.chmod(0o755)
    environment = {**os.environ, "PATH": f"{broken.parent}:{os.environ['PATH']}"}
    command = [sys.executable, "-m", "skerry", "fleet", "serve", "--root", str(tmp_path / "fleet"), "--port", "0"]
    done = subprocess.run([*command, "--broker", "mosquitto"], env=environment, capture_output=True, text=True)
    lines = [line for line in done.stderr.splitlines() if "INFO" not in line]
    assert done.returncode == 1 and len(lines) == 1, done.stderr
    assert "the broker ended at once, with 3: no more memory" in lines[0] and "broker.log" in lines[0]
