"""What is given to run a fleet with: every name in it is one that the fleet knows, and nothing is open needlessly."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from skerry_fleet import cli, config
from skerry_fleet.config import ENVIRONMENT_PREFIX

DEPLOY = Path(__file__).parents[3] / "fleet" / "deploy"
CHART = DEPLOY / "helm" / "skerry"
OURS = ("fleet", "broker-0", "broker-1")


def filled(text: str) -> str:
    """Fill in what Compose takes from the environment: defaults, and a host where one is demanded."""
    return re.sub(
        r"\$\{(\w+)(?::?[-?]([^}]*))?\}", lambda found: found[2] if ":-" in found[0] or "-/" in found[0] else "h", text
    )


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(filled((DEPLOY / "compose" / "compose.yaml").read_text()))
    return found


def test_every_service_is_watched_bounded_and_closed(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service["restart"] == "unless-stopped" and service["mem_limit"], name
        assert "no-new-privileges:true" in service["security_opt"] and not service["image"].endswith(":latest"), name
        assert re.search(r":\d", service["image"]), f"{name}: an image without its version"
        assert "healthcheck" in service or name == "proxy", name
        assert service.get("privileged") is None and "network_mode" not in service, name
        for each in service.get("secrets", ()):
            assert each in compose["secrets"], f"{name}: no secret {each}"
        for each in service.get("volumes", ()):
            source = each.split(":")[0]
            assert source in compose["volumes"] or (DEPLOY / "compose" / source).is_file(), each
    for name in OURS:
        assert compose["services"][name]["read_only"] and compose["services"][name]["cap_drop"] == ["ALL"]
    assert "ports" not in compose["services"]["database"] and "ports" not in compose["services"]["fleet"]
    assert compose["services"]["database"]["networks"] == ["inside"] and compose["networks"]["inside"]["internal"]


def test_what_the_services_are_told_is_what_the_fleet_understands(compose: dict[str, Any], tmp_path: Path) -> None:
    told = {key: str(value) for key, value in compose["services"]["fleet"]["environment"].items()}
    assert all(key.startswith(ENVIRONMENT_PREFIX) for key in told)
    shards = [name for name in compose["services"] if name.startswith("broker-")]
    found = config.load(tmp_path, {}, told)
    assert found.shards == len(shards) and found.broker == "external"
    assert [host for host, _ in config.addresses(found.broker_inner_urls)] == shards
    for number, name in enumerate(shards):
        service = compose["services"][name]
        arguments = cli._parser().parse_args(service["command"])
        assert (arguments.verb, arguments.shard, arguments.host) == ("run", str(number), "0.0.0.0")
        assert arguments.fleet == "http://fleet:8707" and arguments.token_file == found.broker_token_file
        assert service["ports"] == [f"{config.addresses(found.broker_urls)[number][1]}:8883"]
        cli._parser().parse_args(service["healthcheck"]["test"][6:])
    cli._parser().parse_args(compose["services"]["fleet"]["healthcheck"]["test"][6:])


def test_secrets_are_made_once_and_for_the_owner_alone(tmp_path: Path, compose: dict[str, Any]) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    shutil.copy(DEPLOY / "compose" / "make-secrets.sh", tmp_path)
    made = []
    for _ in range(2):
        subprocess.run(["sh", "make-secrets.sh"], cwd=tmp_path, check=True, env={"PATH": "/usr/bin:/bin"})
        made.append({path.name: path.read_bytes() for path in (tmp_path / "secrets").iterdir()})
    assert made[0] == made[1] and set(made[0]) == set(compose["secrets"]) and all(made[0].values())
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700


def templates() -> Iterator[tuple[str, str]]:
    for path in sorted((CHART / "templates").iterdir()):
        yield path.name, path.read_text()


def test_the_chart_is_of_this_version_and_names_only_what_there_is(tmp_path: Path) -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == version("skerry")
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert set(values) <= set(schema["properties"]) and schema["additionalProperties"] is False
    text = "\n".join(content for _, content in templates())
    for name in set(re.findall(r"SKERRY_FLEET_([A-Z_]+[A-Z])\b", text)):
        assert name.lower() in config.FleetConfig.__slots__, f"no setting {name}"
    for path in set(re.findall(r"\.Values((?:\.\w+)+)", text)) - {".fullnameOverride"}:
        place: Any = values
        for part in path[1:].split("."):
            assert part in place, f"values.yaml has no {path}"
            place = place[part]
    for words in re.findall(r"command: \[/usr/bin/python3, -I, -m, skerry, fleet, (.*?)\]", text):
        cli._parser().parse_args(words.split(", "))
    run = re.search(r"args: \[(.*)\]\n", text)
    assert run is not None
    words = re.sub(r"\{\{.*?\}\}", "http://fleet", run[1]).replace('"', "").split(", ")
    arguments = cli._parser().parse_args(words)
    assert arguments.shard == "auto" and arguments.token_file == "/run/skerry/broker/token"


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        ([], ""),
        (["database.url=postgresql://skerry@db/skerry", "broker.shards=3", "ingress.enabled=true"], ""),
        (["broker.shards=0"], "shards"),
        (["database.url=postgresql://skerry:secret@db/skerry"], "database"),
        (["serviceMonitor.enabled=true"], "keySecret"),
    ],
)
def test_helm_renders_the_chart(sets: list[str], said: str) -> None:
    helm = shutil.which("helm")
    if helm is None:
        pytest.skip("needs helm")
    words = [word for each in sets for word in ("--set", each)]
    done = subprocess.run([helm, "template", "site", str(CHART), *words], capture_output=True, text=True)
    assert (done.returncode == 0) == (not said) and said in done.stderr
    if not said:
        assert {each["kind"] for each in yaml.safe_load_all(done.stdout)} >= {"StatefulSet", "Service", "NetworkPolicy"}
