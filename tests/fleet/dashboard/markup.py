"""What a browser would make of a page, without a browser."""

from __future__ import annotations

from html.parser import HTMLParser

from tests.fleet.dashboard.conftest import House


class Markup(HTMLParser):
    """What a browser would make of a page: its elements, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.said: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.said.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.said).split())


def addresses(house: House) -> list[str]:
    """Return a page of every sort."""
    bundle = house.bench.assignment(house.bad)
    assert bundle is not None
    return [
        "/ui/", "/ui/sites", "/ui/sites?by=floor", "/ui/trends", "/ui/search?q=po", "/ui/rollouts/new",
        "/ui/devices", f"/ui/devices/{house.bad}", "/ui/models", "/ui/models/digits",
        f"/ui/bundles/{bundle.models[0].bundle}", "/ui/rollouts", f"/ui/rollouts/{house.rollout}",
        f"/ui/rollouts/{house.rollout}/abort", "/ui/drift", "/ui/drift/digits", "/ui/drift/digits?site=quay", 
        "/ui/alerts", "/ui/audit", "/ui/measurements",
    ]  # fmt: skip
