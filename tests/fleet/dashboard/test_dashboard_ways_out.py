"""What leads out of the dashboard: to the labelling of the cloud side, and the audit as a file."""

from __future__ import annotations

from pathlib import Path

import httpx
from tests.fleet.conftest import Clock
from tests.fleet.dashboard.conftest import House, open_house, publish, send_sample, token_of
from tests.fleet.dashboard.markup import Markup

from skerry_fleet import audit_file
from skerry_fleet.config import FleetConfig


def test_the_way_to_the_labels_is_shown_where_it_is_set(tmp_path: Path) -> None:
    with open_house(FleetConfig(tmp_path, cloud_url="https://cloud.example/inside&lt/"), Clock()) as house:
        house.bench.enrol("d0")
        send_sample(house.bench, "d0", publish(house.bench, "1", 1), 0)
        with house.visitor("operator") as client:
            page = Markup(client.get("/ui/drift/digits").text)
            outside = [
                each for tag, each in page.tags if tag == "a" and not (each["href"] or "").startswith(("/", "#"))
            ]
            assert [each["href"] for each in outside] == ["https://cloud.example/inside&lt/label"] * 2
            assert all(each["target"] == "_blank" and "noopener" in (each["rel"] or "") for each in outside)
            assert "Have these labelled" in page.text and "cloud_url" not in page.text
        assert "cloud.example" not in httpx.get(f"{house.url}/ui/sign-in", trust_env=False).text


def test_without_the_setting_the_page_says_how(shown: House) -> None:
    with shown.visitor("viewer") as client:
        page = Markup(client.get("/ui/drift/digits").text)
    assert "Labels" not in page.text and "set cloud_url in the fleet's fleet.toml" in page.text
    assert not any(each.get("target") for _, each in page.tags)


def test_the_audit_is_saved_as_the_api_exports_it(shown: House, tmp_path: Path) -> None:
    with shown.visitor("viewer") as client:
        page = Markup(client.get("/ui/audit").text)
        way = next(each["href"] for tag, each in page.tags if "download" in each)
        saved = client.get(way or "")
        assert saved.headers["content-disposition"].startswith('attachment; filename="audit-2')
        assert saved.headers["content-type"] == audit_file.MEDIA
        exported = client.get("/api/v1/audit/export", headers={"authorization": f"Bearer {shown.keys['viewer']}"})
        assert saved.content == exported.content
        (tmp_path / "audit.jsonl").write_bytes(saved.content)
        assert audit_file.verify([tmp_path / "audit.jsonl"]).broken_at is None
        assert client.get("/ui/audit/export?after=999999").status_code == 404
        assert client.get("/ui/audit/export?after=x").status_code == 422
        client.post("/ui/sign-out", data={"token": token_of(client.get("/ui/").text)})
        assert client.get("/ui/audit/export").status_code == 303
