"""Answers held against the API's own description, and schemathesis, which asks what the description allows."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
from fastapi import FastAPI

from skerry_fleet.openapi.document import describe

NOT_CHECKED = "positive_data_acceptance"
"""What a schema cannot say, such as that a certificate request must be one, is refused, and rightly so."""
STREAM = "/api/v1/events"


class Description:
    """The document of an application, with which answers are compared strictly: a field that it does not name is wrong,
    too, though clients are told to expect new ones.
    """

    def __init__(self, app: FastAPI) -> None:
        self.document = describe(app)
        self.components = copy.deepcopy(self.document["components"])
        _close(self.components)
        self.validators: dict[str, Any] = {}
        self.paths = [
            (re.compile(re.sub(r"\{(\w+)\}", lambda found: r".+" if found[1] == "path" else r"[^/]+", path)), path)
            for path in self.document["paths"]
        ]

    def check(self, response: httpx.Response) -> None:
        """Refuse an answer that is not as described."""
        request = response.request
        path = next((path for pattern, path in self.paths if pattern.fullmatch(request.url.path)), None)
        operation = self.document["paths"].get(path, {}).get(request.method.lower())
        if operation is None:
            return  # no route of ours: 404 and 405 are tested by themselves
        said = f"{request.method} {path} {response.status_code}"
        answer = operation["responses"].get(str(response.status_code))
        assert answer is not None, f"{said} is not described"
        if "content" not in answer or "x-accel-redirect" in response.headers:
            return
        ((media, inside),) = answer["content"].items()
        assert response.headers["content-type"].split(";")[0] == media, said
        if media == "application/json":
            if said not in self.validators:
                schema = copy.deepcopy(inside["schema"])
                _close(schema)
                self.validators[said] = jsonschema_rs.Draft202012Validator({**schema, "components": self.components})
            response.read()
            for error in self.validators[said].iter_errors(response.json()):
                raise AssertionError(f"{said}: {error.message:.300} at {list(error.instance_path)}")


def _close(schema: Any) -> None:
    """Let objects that name their fields have no others."""
    if isinstance(schema, dict):
        if "properties" in schema and schema.get("type") == "object":
            schema.setdefault("additionalProperties", False)
        for each in schema.values():
            _close(each)
    elif isinstance(schema, list):
        for each in schema:
            _close(each)


def run(url: str, token: str, folder: Path, examples: int, phases: Sequence[str], *only: str) -> tuple[int, str]:
    """Ask a served fleet with schemathesis; return how it ends (0: nothing found), and what it says."""
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json"),
        *("--header", f"Authorization: Bearer {token}", "--checks", "all", "--exclude-checks", NOT_CHECKED),
        *("--exclude-path", STREAM, "--phases", ",".join(phases), "--max-examples", str(examples)),
        *("--generation-deterministic", "--workers", "1", "--no-color", *only),
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def ask(url: str, token: str, folder: Path, examples: int, phases: Sequence[str], *only: str) -> None:
    """Ask a served fleet with schemathesis.

    Raises:
        AssertionError: it found something.
    """
    code, said = run(url, token, folder, examples, phases, *only)
    assert code == 0, said


def furnish(client: httpx.Client) -> str:
    """Put something of each kind into a fleet; return a device's download token."""
    from tests.fleet.conftest import enrolment_body, make_bundle, new_key

    client.post("/api/v1/models", json={"name": "digits"})
    client.post("/api/v1/groups", json={"name": "lab"})
    bundle = client.post("/api/v1/models/digits/bundles", content=make_bundle()).json()["id"]
    token = client.post("/api/v1/claims", json={"uses": 2}).json()["token"]
    for name in ("d0", "d1"):
        made = client.post("/device/v1/enrol", json=enrolment_body(token, name, new_key())).json()
    assert client.post("/api/v1/rollouts", json={"model": "digits", "bundle": bundle}).status_code == 201
    client.put("/api/v1/models/digits/drift", json={"drifting": True})
    return str(made["download_token"])
