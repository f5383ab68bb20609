"""The API over HTTP: what is kept between requests."""

from __future__ import annotations

import httpx


def test_drift_opens_and_closes_one_alert(client: httpx.Client) -> None:
    client.post("/api/v1/models", json={"name": "digits"})
    verdict = {"monitor": "data", "drifting": True, "score": 0.9, "threshold": 0.6, "bundle": "x"}
    for _ in range(3):
        assert client.put("/api/v1/models/digits/drift", json=verdict).status_code == 200
    (alert,) = client.get("/api/v1/alerts?state=open").json()["items"]
    assert (alert["kind"], alert["subject"], alert["count"]) == ("drift", "digits/data", 3)
    assert client.post(f"/api/v1/alerts/{alert['id']}/ack").json()["acknowledged_by"] == "first"
    assert client.get("/api/v1/models/digits/drift").json()["drifting"] is True
    client.put("/api/v1/models/digits/drift", json={**verdict, "drifting": False})
    assert client.get("/api/v1/alerts").json()["items"][0]["state"] == "resolved"
    assert client.post(f"/api/v1/alerts/{alert['id']}/ack").status_code == 409


def test_keys_work_until_they_are_revoked(client: httpx.Client) -> None:
    made = client.post("/api/v1/keys", json={"name": "robot", "role": "operator"}).json()
    headers = {"authorization": f"Bearer {made['key']}"}
    assert client.get("/api/v1/whoami", headers=headers).json()["role"] == "operator"
    assert client.delete(f"/api/v1/keys/{made['id']}").status_code == 200
    assert client.get("/api/v1/whoami", headers=headers).status_code == 401
    first = next(each for each in client.get("/api/v1/keys").json()["items"] if each["role"] == "admin")
    assert client.delete(f"/api/v1/keys/{first['id']}").status_code == 409, "the last admin stays"
    assert "secret" not in client.get("/api/v1/keys").text
