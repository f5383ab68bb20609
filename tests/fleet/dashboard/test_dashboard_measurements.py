"""What boards measured, as a page: narrowed, page by page, and without markup from a board."""

from __future__ import annotations

from urllib.parse import quote

from tests.fleet.dashboard.conftest import HOSTILE, House
from tests.fleet.dashboard.markup import Markup
from tests.fleet.lease_parts import PROFILE, SOURCE, ask, candidate, lease, open_lab, tell, upload

from skerry_contracts.measuring import MeasureState


def test_measurements_are_narrowed_and_paged(house: House) -> None:
    with house.visitor("viewer") as client:
        assert "Nothing yet" in Markup(client.get("/ui/measurements").text).text
        bench = open_lab(house.bench)
        names = [ask(bench, "b1"), ask(bench, "b2")]
        for name, count in zip(names, (58, 2), strict=True):
            upload(bench, name)
            for number in range(count):
                found = candidate(
                    f"{lease(bench, name).device}-c{number:02}", against_p50_ns=(4000, 4400), against="yard"
                )
                tell(bench, name, MeasureState.MEASURING, candidate=found)
        first = Markup(client.get("/ui/measurements").text)
        assert [row(first)[0], row(first)[-1], len(row(first))] == ["b2-c01", "b1-c10", 50]
        assert (
            "4 × yard" in first.text
            and "1 µs" in first.text
            and names[0] in first.text
            and "Newest leases" in first.text
        )
        onward = next(each["href"] or "" for tag, each in first.tags if each.get("rel") == "next")
        second = Markup(client.get(onward).text)
        assert row(second) == [f"b1-c{number:02}" for number in range(9, -1, -1)]
        assert "Newest leases" not in second.text and "First page" in second.text
        for asked, count in (("device=b2", 2), (f"lease={names[1]}", 2), (f"profile={quote(PROFILE)}", 50),
                             (f"source={SOURCE}&device=b2", 2), (f"source={'0' * 64}", 0), ("device=%20b2%20", 2),
                             (f"device={quote(HOSTILE)}", 0)):  # fmt: skip
            answer = client.get(f"/ui/measurements?{asked}")
            assert answer.status_code == 200 and len(row(Markup(answer.text))) == count, asked
            assert "<img" not in answer.text
        onward = next(
            each["href"] or ""
            for tag, each in Markup(client.get("/ui/measurements?device=b1").text).tags
            if each.get("rel") == "next"
        )
        assert "device=b1" in onward and len(row(Markup(client.get(onward).text))) == 8
        for wrong in ("after=x", "device=a%00", f"lease={'x' * 257}"):
            assert client.get(f"/ui/measurements?{wrong}").status_code == 422, wrong


def row(page: Markup) -> list[str]:
    """Return the candidates of a page, as its rows name them."""
    said = [each.strip() for each in page.said]
    return [each for each in said if each[:4] in ("b1-c", "b2-c")]
