"""What the demonstration found, as a file for programs and a table for people."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any


@dataclasses.dataclass(slots=True)
class Result:
    """Everything measured. Accuracies are shares of 1, on the devices, on images nobody was ever shown."""

    seed: int
    devices: int
    held_out: tuple[int, ...]
    sensor_noise: float
    accuracy: dict[str, float] = dataclasses.field(default_factory=dict)
    labels_used: int = 0
    bytes_sent: int = 0
    predictions: int = 0
    refused: int = 0
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    rss_mb: dict[str, float] = dataclasses.field(default_factory=dict)
    bundles: list[str] = dataclasses.field(default_factory=list)
    lineage: dict[str, Any] = dataclasses.field(default_factory=dict)
    addresses: dict[str, str] = dataclasses.field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Write `demo-result.json`."""
        path.write_text(json.dumps(dataclasses.asdict(self), indent=2, sort_keys=True) + "\n")

    def table(self) -> str:
        """Return the closing table."""
        unknown = " and ".join(map(str, self.held_out))
        rows = [
            ("accuracy before", f"{self.accuracy['before']:.3f}", "first model, on the eight classes it knows"),
            (
                "accuracy during",
                f"{self.accuracy['during']:.3f}",
                f"first model, digits {unknown} appear, worn sensors",
            ),
            ("accuracy after", f"{self.accuracy['after']:.3f}", "second model, all ten classes, worn sensors"),
            ("labels used", str(self.labels_used), "votes of the simulated labellers"),
            ("devices", str(self.devices), "real agent processes"),
            ("predictions", str(self.predictions), f"{self.refused} refused while a model was replaced"),
            (
                "bytes sent by devices",
                f"{self.bytes_sent:,}",
                "samples, sketches and progress, as committed by the fleet",
            ),
            ("supervisor", f"{self.rss_mb['supervisor']:.1f} MB", "memory of one device's daemon (proportional set)"),
            ("worker", f"{self.rss_mb['worker']:.1f} MB", "memory of its model's process"),
            *((f"seconds: {key.replace('_', ' ')}", f"{value:.1f}", "") for key, value in self.seconds.items()),
        ]
        left, middle = (max(len(row[column]) for row in rows) for column in (0, 1))
        lines = [f"  {name:<{left}}  {value:>{middle}}  {words}".rstrip() for name, value, words in rows]
        return "\n".join(["", *lines, "", self._chain()])

    def _chain(self) -> str:
        """Return the way from one prediction back to its labels, in one line."""
        found = self.lineage
        votes = sum(len(label["votes"]) for label in found["labels"])
        links = [
            f"prediction {found['prediction']}",
            f"bundle {found['bundle'][:12]}",
            f"training {found['run']}",
            f"data {found['dataset'][:12]} ({found['dataset_rows']} rows)",
            f"{len(found['labels'])} labels ({votes} votes)",
        ]
        return "  " + "\n    ← ".join(links)
