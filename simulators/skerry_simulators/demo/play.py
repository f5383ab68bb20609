"""The play in five acts: build, roll out, change the world, watch the loop close, examine."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from typing import Any

import httpx

from skerry_contracts.errors import ContractError
from skerry_simulators.demo import street as parts
from skerry_simulators.demo.data import Deal, deal
from skerry_simulators.demo.memory import children_of, pss_bytes
from skerry_simulators.demo.processes import Children, DemoError, wait_for
from skerry_simulators.demo.report import Result
from skerry_simulators.demo.screen import Screen
from skerry_simulators.demo.street import MODEL, Street
from skerry_simulators.demo.world import World

PIPELINE_PATIENCE_S = 300.0
EVERY_S = 0.5


def play(arguments: argparse.Namespace) -> int:
    """Play it; return 0 where the loop closed."""
    screen = Screen()
    children = Children(arguments.root / "logs")
    street = Street(arguments.root, children)
    dealt = deal(arguments.seed)
    result = Result(arguments.seed, arguments.devices, dealt.held_out, arguments.noise)
    signal.signal(signal.SIGTERM, _interrupt)
    screen.say(f"skerry: {arguments.devices} devices; the first model never sees {_words(dealt.held_out)}")
    try:
        build(street, screen, dealt, arguments.devices)
        with _world(street, arguments.seed) as world:
            acts(street, screen, world, dealt, result)
            close(street, screen, world, result)
            result.write(arguments.result)
            print(result.table(), file=sys.stderr, flush=True)
            if arguments.json:
                print(json.dumps(json.loads(arguments.result.read_text()), sort_keys=True))
            if arguments.keep:
                stay(street, screen)
    except (DemoError, ContractError, httpx.HTTPError) as error:
        hint = getattr(error, "hint", "") or f"see {children.logs}"
        print(f"skerry: error: {error} ({hint})", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        children.stop()
    return 0


def build(street: Street, screen: Screen, dealt: Deal, devices: int) -> None:
    """Act one: start everything, and enrol the devices."""
    with screen.step("start", "start broker, fleet and cloud"):
        parts.write_project(street.root, dealt)
        parts.start_fleet(street)
        parts.start_cloud(street)
        screen.note(street.broker)
    screen.say(f"  fleet {street.fleet_url}   labels, pipelines and lineage {street.cloud_url}")
    screen.say(f"  key   {street.key}")
    with screen.step("enrol", f"enrol and start {devices} devices"):
        parts.start_devices(street, devices)


def acts(street: Street, screen: Screen, world: World, dealt: Deal, result: Result) -> None:
    """Acts two to five: first model, changed world, the loop, the second model."""
    known = dealt.examination.without(dealt.held_out)
    first = street.cloud("pipeline", "run", MODEL, "--first")["id"]
    follow(street, screen, first, "first", result)
    with screen.step("before", "examine the devices on what the model knows"):
        result.accuracy["before"] = world.examine(known, 0.0, 1)
        screen.note(f"accuracy {result.accuracy['before']:.3f}")
    screen.say(f"  the world changes: {_words(result.held_out)} appear, and the sensors wear out")
    world.show(dealt.stream, result.sensor_noise)
    with screen.step("during", "examine the same model in the changed world"):
        result.accuracy["during"] = world.examine(dealt.examination, result.sensor_noise, 2)
        screen.note(f"accuracy {result.accuracy['during']:.3f}")
    with screen.step("notice", "wait for the monitors to notice"):
        second = wait_for("alarm", lambda: _newer(street, first), street.children, PIPELINE_PATIENCE_S, EVERY_S)
        screen.note(str(second["cause"].get("monitor", second["cause"].get("kind"))))
    follow(street, screen, second["id"], "second", result)
    with screen.step("after", "examine the devices again"):
        result.accuracy["after"] = world.examine(dealt.examination, result.sensor_noise, 3)
        screen.note(f"accuracy {result.accuracy['after']:.3f}")


def follow(street: Street, screen: Screen, pipeline: str, act: str, result: Result) -> None:
    """Show a pipeline's steps as they pass; return when every device serves what it made."""

    def look() -> dict[str, Any] | None:
        found = parts.pipeline_step(street, pipeline)
        screen.note(found["step"])
        return found if found["state"] == "done" else None

    with screen.step(act, f"{act} model: pipeline {pipeline}"):
        ended = wait_for(f"end of {pipeline}", look, street.children, PIPELINE_PATIENCE_S, EVERY_S)
    groups: dict[str, float] = {}
    for each in ended["steps"]:
        key = f"{act}_{str(each['step']).split('-')[0]}"
        groups[key] = round(groups.get(key, 0.0) + each["ended_s"] - each["started_s"], 2)
    screen.seconds |= groups
    screen.say("    " + ", ".join(f"{key.split('_', 1)[1]} {value:.1f} s" for key, value in groups.items()))
    deployed = ended["detail"]["bundles"]["host"]
    result.bundles += [deployed, ended["detail"]["bundles"]["arm64"]]
    with screen.step(f"{act}_serving", "every device serves it"):
        wait_for(
            "device on the new model", lambda: parts.serving(street, deployed) or None, street.children, 60.0, EVERY_S
        )


def close(street: Street, screen: Screen, world: World, result: Result) -> None:
    """Collect what is left to say."""
    result.predictions, result.refused = world.shown, world.refused
    jobs = street.cloud("label", "jobs")["jobs"]
    result.labels_used = sum(int(job["votes"]) for job in jobs)
    result.bytes_sent = _bytes_sent(street)
    supervisors = {name: street.children.pid(name) for name in street.sockets}
    pid = next(iter(supervisors.values()))
    result.rss_mb = {
        "supervisor": round(pss_bytes(pid) / 1e6, 2),
        "worker": round(max((pss_bytes(child) for child in children_of(pid)), default=0) / 1e6, 2),
    }
    result.lineage = _lineage(street, result.bundles[2])
    result.addresses = {"fleet": street.fleet_url, "cloud": street.cloud_url, "broker": street.broker}
    result.seconds = {**screen.seconds, "total": round(screen.total_s, 1)}


def stay(street: Street, screen: Screen) -> None:
    """Leave everything running until interrupted."""
    screen.say(f"everything runs: {street.fleet_url} (key {street.key}); Ctrl-C ends it")
    while True:
        street.children.check()
        time.sleep(1.0)


def _world(street: Street, seed: int) -> World:
    return World(MODEL, street.sockets, street.oracle, seed, every_s=len(street.sockets) / 60)


def _newer(street: Street, first: str) -> dict[str, Any] | None:
    return next((each for each in parts.pipelines(street) if each["id"] != first), None)


def _bytes_sent(street: Street) -> int:
    metrics = httpx.get(
        f"{street.fleet_url}/metrics", headers={"authorization": f"Bearer {street.key}"}, trust_env=False
    ).text
    lines = [line for line in metrics.splitlines() if line.startswith("skerry_ingest_bytes_total")]
    return int(sum(float(line.rsplit(" ", 1)[1]) for line in lines))


def _lineage(street: Street, bundle: str) -> dict[str, Any]:
    """Return where a prediction of the new model came from, as the cloud tells it."""
    prediction = wait_for(
        "sample of the new model", lambda: parts.newest_prediction(street, bundle), street.children, 60.0, EVERY_S
    )

    def known() -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = street.cloud("lineage", prediction)
        except DemoError:
            return None  # the cloud has not fetched the sample yet
        return found

    return wait_for("lineage", known, street.children, 30.0, EVERY_S)


def _words(classes: tuple[int, ...]) -> str:
    return " and ".join(f"'{each}'" for each in classes)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
