"""/metrics by the words of its readers: Prometheus' own checker, its client library, and the dashboard for Grafana."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families
from tests.fleet.conftest import Bench, enrolment_body, make_bundle, new_key

GRAFANA = Path(__file__).parents[2] / "docs" / "grafana.json"


@pytest.fixture
def exposition(client: httpx.Client, app: FastAPI) -> str:
    """What a fleet says in which something happens."""
    client.post("/api/v1/models", json={"name": "digits"})
    bundle = client.post("/api/v1/models/digits/bundles", content=make_bundle()).json()["id"]
    token = client.post("/api/v1/claims", json={"uses": 2}).json()["token"]
    for name in ("d0", "d1"):
        client.post("/device/v1/enrol", json=enrolment_body(token, name, new_key()))
    client.post("/api/v1/rollouts", json={"model": "digits", "bundle": bundle})
    bench = Bench(app.state.fleet, app.state.fleet.clock)
    bench.beat("d0", bundle)
    client.get("/api/v1/devices/d0")
    client.get("/api/v1/devices/none")
    client.request("BREW", "/nowhere")
    return client.get("/metrics").text


def test_names_help_and_units_follow_the_conventions(exposition: str) -> None:
    families = {family.name: family for family in text_string_to_metric_families(exposition)}
    assert all(family.documentation for family in families.values())
    for name, family in families.items():
        assert name.startswith(("skerry_", "process_")), name
        assert not re.search(r"_(ms|milliseconds|kb|mb|percent)$", name), f"{name}: base units only"
        if family.type == "counter":
            assert all(each.name.endswith(("_total", "_created")) for each in family.samples), name
    counted = {
        (sample.labels["method"], sample.labels["route"], sample.labels["status"])
        for sample in families["skerry_http_requests"].samples
        if sample.name.endswith("_total")
    }
    assert {("GET", "/api/v1/devices/{device}", status) for status in ("200", "404")} <= counted
    assert ("other", "none", "404") in counted, "what strangers invent makes no series of its own"
    places = {sample.labels["place"]: sample.value for sample in families["skerry_rollout_devices"].samples}
    assert sum(places.values()) == 2


def test_the_dashboard_for_grafana_names_only_metrics_that_there_are(exposition: str) -> None:
    samples = [each for family in text_string_to_metric_families(exposition) for each in family.samples]
    there, labels = {each.name for each in samples}, {label for each in samples for label in each.labels}
    panels: list[dict[str, Any]] = json.loads(GRAFANA.read_text())["panels"]
    expressions = [target["expr"] for panel in panels for target in panel["targets"]]
    named = {name for each in expressions for name in re.findall(r"\b(?:skerry|process)_\w+", each)}
    assert len(named) > 15 and named <= there, named - there
    legends = [target["legendFormat"] for panel in panels for target in panel["targets"]]
    shown = {name for each in legends for name in re.findall(r"{{(\w+)}}", each)}
    assert shown <= labels | {"instance"}
    spots = [tuple(panel["gridPos"].values()) for panel in panels]
    assert len(set(spots)) == len(spots) and all(x + w <= 24 for x, _, w, _ in spots)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool (Debian: apt install prometheus)")
def test_promtool_finds_nothing_wrong(exposition: str, tmp_path: Path) -> None:
    checked = subprocess.run(["promtool", "check", "metrics"], input=exposition, capture_output=True, text=True)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
    panels = json.loads(GRAFANA.read_text())["panels"]
    rules = [
        {"record": f"check:panel{number}", "expr": target["expr"].replace("$__rate_interval", "5m")}
        for number, target in enumerate(target for panel in panels for target in panel["targets"])
    ]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    read = subprocess.run(["promtool", "check", "rules", str(tmp_path / "rules.yml")], capture_output=True, text=True)
    assert read.returncode == 0, read.stdout + read.stderr
