"""Settings: one project file (TOML) a model, and what `serve` itself needs. Defaults < TOML < flag; passed in, never
global.
"""

from __future__ import annotations

import dataclasses
import tomllib
import types
import typing
from pathlib import Path
from typing import Any

from skerry_cloud.errors import ConfigError
from skerry_contracts import codec, names
from skerry_contracts.errors import ContractError

TRAINERS = ("mlp", "forest", "logistic")
WORKFORCES = ("simulated", "people")


@dataclasses.dataclass(frozen=True, slots=True)
class TrainConfig:
    """How a model is trained. `parameters` go to the scikit-learn estimator over the trainer's defaults.

    `augment_copies` noisy copies of every row are added; `augment_noise` is their standard deviation in units of the
    input, estimated from the samples where it is None. `shift_pixels` moves images by up to so many pixels, which
    needs `image_shape` (height, width). `clip` bounds augmented values.
    """

    trainer: str = "mlp"
    parameters: dict[str, Any] = dataclasses.field(default_factory=dict)
    seed: int = 0
    max_runtime_s: float = 600.0
    augment_copies: int = 10
    augment_noise: float | None = None
    shift_pixels: int = 0
    image_shape: tuple[int, ...] = ()
    clip: tuple[float, ...] = ()
    label_weight: int = 2

    def __post_init__(self) -> None:
        if self.trainer not in TRAINERS:
            raise ConfigError(f"no trainer {self.trainer!r}", hint=f"one of {', '.join(TRAINERS)}")
        if self.shift_pixels and len(self.image_shape) != 2:
            raise ConfigError("shift_pixels needs image_shape = [height, width]", hint="set both or neither")
        if self.clip and (len(self.clip) != 2 or self.clip[0] >= self.clip[1]):
            raise ConfigError("clip is [least, greatest]", hint="for example clip = [0.0, 1.0]")


@dataclasses.dataclass(frozen=True, slots=True)
class GateConfig:
    """What a retrained model must reach before it is compiled. All shares from 0 to 1.

    `min_accuracy` on the held-out rows; `max_regression`: how much accuracy on the previous model's own evaluation
    rows may fall; `min_gain`: how much better than the deployed model it must be on the newly labelled held-out rows.
    """

    min_accuracy: float = 0.8
    max_regression: float = 0.05
    min_gain: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class MonitorConfig:
    """When to look and when to cry. `window` is in random-kept samples (those seen twice count once).

    `false_alarm_rate` is per window and monitor; `calibration_repeats` windows drawn from the reference set the
    threshold. `quality_margin`: how far accuracy may fall below the accepted one before the bound counts. `triggers`
    start the pipeline.
    """

    window: int = 100
    false_alarm_rate: float = 0.005
    calibration_repeats: int = 599
    sketch_predictions: int = 500
    quality_margin: float = 0.02
    triggers: tuple[str, ...] = ("data-drift", "model-quality")


@dataclasses.dataclass(frozen=True, slots=True)
class LabelConfig:
    """Who labels, how many, and how sure. `budget` counts items, `audit` of them drawn at random and kept out of
    training.

    The rest is chosen in `rounds` by what the model so far finds hardest; a round waits up to `pool_wait_s` for twice
    the budget of samples to choose from. An item gets `votes`, and more up to `max_votes` while its consolidated
    label is less sure than `confidence`. A vote costs `vote_cost` (any currency). A lease lasts `lease_s`. The
    simulated workforce reads `oracle` (JSON lines {"prediction_id", "label"}) and errs with 1 - `worker_accuracy`.
    """

    workforce: str = "people"
    budget: int = 240
    audit: int = 40
    rounds: int = 3
    pool_wait_s: float = 20.0
    votes: int = 1
    max_votes: int = 1
    confidence: float = 0.8
    vote_cost: float = 0.012
    lease_s: float = 120.0
    oracle: str = ""
    workers: int = 3
    worker_accuracy: float = 1.0

    def __post_init__(self) -> None:
        if self.workforce not in WORKFORCES:
            raise ConfigError(f"no workforce {self.workforce!r}", hint=f"one of {', '.join(WORKFORCES)}")
        if self.workforce == "simulated" and not self.oracle:
            raise ConfigError(
                "the simulated workforce needs an oracle", hint='set oracle = "oracle.jsonl" under [labels]'
            )
        if not 0 < self.audit < self.budget or self.rounds < 1:
            raise ConfigError("audit must be less than budget, and rounds at least 1", hint="for example 40, 240 and 3")
        if not 1 <= self.votes <= self.max_votes:
            raise ConfigError("votes run from 1 to max_votes", hint="for example votes = 1, max_votes = 3")


@dataclasses.dataclass(frozen=True, slots=True)
class TargetConfig:
    """One board to compile for, measuring for `budget_s`; `group` is the fleet's group that gets it, `deploy` false:
    nobody does.

    Without a `group` all devices that fit get it.
    """

    profile: str
    group: str | None = None
    deploy: bool = True
    budget_s: float = 10.0
    objective: str = "latency"


@dataclasses.dataclass(frozen=True, slots=True)
class RolloutConfig:
    """The fleet's rollout plan: `waves` in percent of the group, budgets in devices, times in seconds.

    The pipeline waits up to `timeout_s` for it to complete. `sampling` (a SamplingPolicy) and `window` are passed on
    as they are.
    """

    canary: int = 1
    waves: tuple[int, ...] = (50, 100)
    soak_s: float = 10.0
    failure_budget: int = 1
    exposure_budget: int = 5
    timeout_s: float = 3600.0
    window: dict[str, Any] = dataclasses.field(default_factory=dict)
    sampling: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class ProjectConfig:
    """One model's whole loop. `dataset` is an .npz with `x` [n, ...], `y` int[n], `labels` text[k]; optional
    `x_evaluation`, `y_evaluation`.

    `approval` is `auto` or `manual`; after a pipeline ends, no alarm starts one for `cooldown_s`. `compile_timeout_s`
    bounds one compile.
    """

    model: str
    dataset: str
    input_name: str = "input"
    approval: str = "manual"
    cooldown_s: float = 300.0
    compile_timeout_s: float = 1800.0
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    gate: GateConfig = dataclasses.field(default_factory=GateConfig)
    monitor: MonitorConfig = dataclasses.field(default_factory=MonitorConfig)
    labels: LabelConfig = dataclasses.field(default_factory=LabelConfig)
    rollout: RolloutConfig = dataclasses.field(default_factory=RolloutConfig)
    targets: tuple[TargetConfig, ...] = (TargetConfig("host"),)

    def __post_init__(self) -> None:
        names.name(self.model, "model")
        if self.approval not in ("auto", "manual"):
            raise ConfigError(f"approval is auto or manual, not {self.approval!r}", hint='set approval = "manual"')


@dataclasses.dataclass(frozen=True, slots=True)
class ServeConfig:
    """What `skerry cloud serve` needs. `sync_interval_s` and `monitor_interval_s` are pauses between two looks."""

    root: str
    fleet: str
    key_file: str
    host: str = "127.0.0.1"
    port: int = 8708
    sync_interval_s: float = 1.0
    monitor_interval_s: float = 1.0


def load_project(path: Path) -> ProjectConfig:
    """Return a project from its TOML file; relative paths in it are taken from the file's own folder.

    Raises:
        ConfigError: the file is missing, no TOML, has an unknown key, or a value of the wrong type.
    """
    try:
        plain = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", hint="name a project file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no TOML: {error}", hint="see docs/cloud.md for an example") from error
    _no_unknown(ProjectConfig, plain, path.name)
    try:
        project = codec.from_plain(ProjectConfig, plain)
    except ContractError as error:
        raise ConfigError(f"{path.name}: {error}", hint="see docs/cloud.md for an example") from error
    base = path.resolve().parent
    labels = project.labels
    if labels.oracle:
        labels = dataclasses.replace(labels, oracle=str(base / labels.oracle))
    return dataclasses.replace(project, dataset=str(base / project.dataset), labels=labels)


def load_projects(root: Path) -> dict[str, ProjectConfig]:
    """Return every project under `root/projects`, by model name.

    Raises:
        ConfigError: see `load_project`; or two files name one model.
    """
    found: dict[str, ProjectConfig] = {}
    for path in sorted((root / "projects").glob("*.toml")):
        project = load_project(path)
        if project.model in found:
            raise ConfigError(
                f"two project files name the model {project.model}", hint=f"remove one from {path.parent}"
            )
        found[project.model] = project
    return found


def _no_unknown(kind: type[Any], plain: Any, where: str) -> None:
    """Refuse keys that no field has: a misspelt setting must not be a silent default."""
    if not isinstance(plain, dict):
        return
    hints = typing.get_type_hints(kind)
    for key, value in plain.items():
        if key not in hints:
            raise ConfigError(f"{where}: no setting {key!r}", hint=f"known here: {', '.join(sorted(hints))}")
        inner = _record_type(hints[key])
        if inner is not None:
            for each in value if isinstance(value, list) else [value]:
                _no_unknown(inner, each, f"{where}: {key}")


def _record_type(hint: Any) -> type[Any] | None:
    if isinstance(hint, type) and not isinstance(hint, types.GenericAlias):
        return hint if dataclasses.is_dataclass(hint) else None
    inner = [each for each in typing.get_args(hint) if isinstance(each, type) and dataclasses.is_dataclass(each)]
    return inner[0] if inner else None
