"""The catalogue as a page: every board with its level and what proved it, and those out of reach (docs/boards.md)."""

from __future__ import annotations

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
    lines += ["## Known, and out of reach\n", "| what | why | nearest | also called |", "|---|---|---|---|"]
    for lost in unreachable.load():
        names = ", ".join(f"`{each}`" for each in lost.aliases)
        lines.append(f"| {lost.title} | {lost.reason} | `{lost.nearest}` | {names} |")
    return _HEAD + "\n".join(lines) + "\n"


def _row(profile: Profile) -> str:
    evidence = levels.on_file(profile.id)
    reached = str(levels.of(profile))
    tools = sorted(set(evidence.tools) - {"skerry", "ziglang", "onnxruntime"}) if evidence is not None else []
    where = f" ({', '.join(tools)})" if tools and reached != Level.DECLARED else ""
    names = ", ".join(f"`{each}`" for each in profile.aliases)
    note = f"{profile.gpu.name} ({profile.gpu.arch})" if profile.gpu else profile.note
    return f"| `{profile.id}` | {profile.title} | {reached}{where} | {names} | {note} |"
