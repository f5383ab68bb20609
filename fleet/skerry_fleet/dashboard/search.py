"""One field for everything that has a name."""

from __future__ import annotations

import dataclasses
from urllib.parse import quote

from sqlmodel import Session, col, select

from skerry_fleet.tables import Bundle, Group, Model, Rollout

EACH = 10
LAST = "\U0010ffff"


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """Something by its name, and its page."""

    name: str
    address: str
    about: str = ""


def everywhere(session: Session, tenant: str, text: str) -> dict[str, list[Found]]:
    """Return what begins with a text, of each kind but devices at most `EACH`."""
    models = session.exec(
        select(Model.name).where(Model.tenant == tenant, Model.name >= text, Model.name < text + LAST)
        .order_by(col(Model.name)).limit(EACH)
    )  # fmt: skip
    groups = session.exec(
        select(Group.name, Group.description)
        .where(Group.tenant == tenant, Group.name >= text, Group.name < text + LAST)
        .order_by(col(Group.name)).limit(EACH)
    )  # fmt: skip
    rollouts = session.exec(
        select(Rollout.id, Rollout.model, Rollout.status)
        .where(Rollout.tenant == tenant, Rollout.id >= text, Rollout.id < text + LAST)
        .order_by(col(Rollout.number).desc()).limit(EACH)
    )  # fmt: skip
    bundles = session.exec(
        select(Bundle.id, Bundle.model, Bundle.version)
        .where(Bundle.tenant == tenant, Bundle.id >= text, Bundle.id < text + LAST)
        .order_by(col(Bundle.id)).limit(EACH)
    )  # fmt: skip
    return {
        "devices": [],
        "models": [Found(name, f"/ui/models/{quote(name)}") for name in models],
        "rollouts": [Found(name, f"/ui/rollouts/{name}", f"{model}, {status}") for name, model, status in rollouts],
        "groups": [Found(name, f"/ui/devices?group={quote(name)}", description) for name, description in groups],
        "bundles": [Found(name, f"/ui/bundles/{name}", f"{model} {version}") for name, model, version in bundles],
    }
