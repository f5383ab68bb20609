"""The catalogue as a page: every board with its level and what proved it, and those out of reach (docs/boards.md)."""

from __future__ import annotations

from collections.abc import Sequence

from skerry_targets import catalogue, levels, unreachable
from skerry_targets.levels import Level
from skerry_targets.profile import Profile

_HEAD = """# Boards

Made by `skerry targets list --markdown` from the profiles and their evidence; do not edit. What the levels mean and how
to raise one: [targets.md](targets.md).

"""


def text() -> str:
    """Return the page."""
    profiles = catalogue.load_all()
    counts = {each: sum(levels.of(profile) is each for profile in profiles) for each in Level}
    total = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    lines = [f"{len(profiles)} boards: {total}.\n"]
    for family in sorted({each.family for each in profiles}):
        lines += [f"## {family}\n", "| id | board | level | also called | note |", "|---|---|---|---|---|"]
        lines += [_row(each) for each in profiles if each.family == family]
        lines.append("")
    lines += _sizes(profiles)
    lines += ["## Known, and out of reach\n", "| what | why | nearest | also called |", "|---|---|---|---|"]
    for lost in unreachable.load():
        names = ", ".join(f"`{each}`" for each in lost.aliases)
        lines.append(f"| {lost.title} | {lost.reason} | `{lost.nearest}` | {names} |")
    return _HEAD + "\n".join(lines) + "\n"


def _sizes(profiles: Sequence[Profile]) -> list[str]:
    """Return the table of what the reference models take of boards without a system."""
    rows = {each.id: levels.footprints(levels.on_file(each.id)) for each in profiles}
    models = sorted({model for sizes in rows.values() for model in sizes})
    lines = [
        "## Flash and memory\n",
        "What the reference models take as linked, of what a board allows: kB of flash / memory.\n",
    ]
    lines += [f"| id | allowed | {' | '.join(models)} |", "|---|---|" + "---|" * len(models)]
    for each in profiles:
        if rows[each.id]:
            budget = each.budget
            pairs = [(budget.artifact_bytes, budget.memory_bytes), *(rows[each.id].get(model) for model in models)]
            words = [f"{pair[0] / 1024:.1f} / {pair[1] / 1024:.1f}" if pair else "" for pair in pairs]
            lines.append(f"| `{each.id}` | {' | '.join(words)} |")
    return [*lines, ""]


def _row(profile: Profile) -> str:
    evidence = levels.on_file(profile.id)
    reached = str(levels.of(profile))
    tools = sorted(set(evidence.tools) - {"skerry", "ziglang", "onnxruntime"}) if evidence is not None else []
    where = f" ({', '.join(tools)})" if tools and reached != Level.DECLARED else ""
    names = ", ".join(f"`{each}`" for each in profile.aliases)
    note = f"{profile.gpu.name} ({profile.gpu.arch})" if profile.gpu else profile.note
    return f"| `{profile.id}` | {profile.title} | {reached}{where} | {names} | {note} |"
