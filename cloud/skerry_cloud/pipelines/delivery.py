"""The steps that bring a model to the devices: compile (a command), upload, roll out, wait. The fleet is asked so
that twice is once.
"""

from __future__ import annotations

import dataclasses
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from skerry_cloud.config import ProjectConfig, TargetConfig
from skerry_cloud.errors import CommandError, FleetError
from skerry_cloud.files import write_durably
from skerry_cloud.pipelines.modelling import load_dataset
from skerry_cloud.services import Services
from skerry_cloud.train import run_child
from skerry_contracts.container import open_container
from skerry_contracts.errors import ContractError

Json = dict[str, Any]
T = TypeVar("T")
CALIBRATION_ROWS = 1000
PATIENCE_S = 3600.0
OVER = ("complete", "aborted", "rolled-back", "superseded")


@dataclasses.dataclass(frozen=True, slots=True)
class Context:
    """Whose delivery this is."""

    services: Services
    project: ProjectConfig
    pipeline: str


def compile_for(context: Context, plan: Json, dataset: Json, run: Json, target: TargetConfig) -> Json:
    """Compile a run's model for one target with the `skerry compile` command, and keep the bundle file.

    Calibration data is the reference: what the world looks like is also the baseline that devices count against.

    Raises:
        CommandError: the compiler refuses or takes too long, or leaves no bundle.
    """
    services, project = context.services, context.project
    folder = services.root / "work" / f"{context.pipeline}-{target.profile}"
    folder.mkdir(parents=True, exist_ok=True)
    bundle = folder / f"{project.model}.skerry"
    bundle.unlink(missing_ok=True)
    model = folder / "model.onnx"
    write_durably(model, services.registry.files.read(run["onnx"]))
    calibration, evaluation = _data(services, project, dataset, folder)
    words = [
        sys.executable,
        "-m",
        "skerry",
        "compile",
        str(model),
        "--target",
        target.profile,
        "--objective",
        target.objective,
    ]
    words += ["--calibration", str(calibration), "--evaluation", str(evaluation), "--model", project.model]
    words += ["--version", f"{plan['release']}.0", "--release", str(plan["release"]), "-o", str(bundle)]
    run_child(words, timeout_s=project.compile_timeout_s, what=f"compiling for {target.profile}")
    try:
        with bundle.open("rb") as file:
            container = open_container(file)
            container.verify()
            manifest, bundle_id = container.manifest, container.bundle_id
    except (OSError, ContractError) as error:
        raise CommandError(f"compiling for {target.profile} left no whole bundle: {error}") from error
    sha256 = services.registry.files.put_file(bundle)
    services.registry.add_bundle(bundle_id, manifest)
    return {
        "target": target.profile,
        "bundle": bundle_id,
        "file": sha256,
        "size_bytes": bundle.stat().st_size,
        "variants": [variant.id for variant in manifest.variants],
    }


def upload(context: Context, bundle: Json) -> Json:
    """Give the fleet a bundle's file; a bundle it has already stays as it is.

    Raises:
        FleetError: the fleet refuses, or cannot be reached for an hour.
    """
    services, model = context.services, context.project.model
    data = services.registry.files.read(bundle["file"])
    patiently(services, lambda: services.fleet().register_model(model))
    return {"bundle": patiently(services, lambda: services.fleet().upload_bundle(model, data))}


def roll_out(context: Context, bundle: Json, target: TargetConfig) -> Json:
    """Start a rollout. Its key is the pipeline's and the target's, and a rollout of this bundle that exists is taken
    up.

    Raises:
        FleetError: the fleet refuses, or cannot be reached for an hour.
    """
    services, project = context.services, context.project
    plan = project.rollout
    body: Json = {
        "model": project.model,
        "bundle": bundle["bundle"],
        "group": target.group,
        "canary": plan.canary,
        "waves": [{"percent": percent} for percent in plan.waves],
        "soak_s": plan.soak_s,
        "failure_budget": plan.failure_budget,
        "exposure_budget": plan.exposure_budget,
        "approval": False,  # approved or not, that was decided here
    }
    body |= {key: value for key, value in (("sampling", plan.sampling), ("window", plan.window)) if value}
    key = f"{context.pipeline}-{target.profile}"

    def start() -> Json:
        for known in services.fleet().rollouts(project.model):
            if known.get("bundle") == bundle["bundle"] and (known.get("group") or "") == (target.group or ""):
                return known
        return services.fleet().create_rollout(body, idempotency_key=key)

    started = patiently(services, start)
    rollout, state = _id(started), _state(started)
    services.registry.add_rollout(
        rollout, model=project.model, bundle=bundle["bundle"], pipeline=context.pipeline, state=state
    )
    return {"rollout": rollout, "bundle": bundle["bundle"], "state": state}


def settle(context: Context, rollout: Json) -> Json:
    """Wait until a rollout is over, or its time is.

    Raises:
        FleetError: the fleet cannot be reached for an hour, or the rollout took longer than `timeout_s`.
    """
    services, project = context.services, context.project
    until_s = services.now() + project.rollout.timeout_s
    while True:
        state = _state(patiently(services, lambda: services.fleet().rollout(rollout["rollout"])))
        services.registry.add_rollout(
            rollout["rollout"], model=project.model, bundle=rollout["bundle"], pipeline=context.pipeline, state=state
        )
        if state in OVER:
            return rollout | {"state": state}
        if services.now() >= until_s:
            hint = f"`skerry fleet rollout show {rollout['rollout']}` says what it waits for"
            raise FleetError(f"rollout {rollout['rollout']} is still {state}", status=200, hint=hint)
        services.rest(0.5)


def patiently(services: Services, ask: Callable[[], T]) -> T:
    """Return what the fleet answers; while it cannot be reached or is overloaded, ask again, for an hour at most.

    Raises:
        FleetError: the fleet refuses, or the hour is over.
    """
    until_s, pause_s = services.now() + PATIENCE_S, 0.2
    while True:
        try:
            return ask()
        except FleetError as error:
            if not error.passing or services.now() >= until_s:
                raise
        services.rest(pause_s)
        pause_s = min(2 * pause_s, 30.0)


def _data(services: Services, project: ProjectConfig, dataset: Json, folder: Path) -> tuple[Path, Path]:
    """Write calibration (the reference) and evaluation (held-out rows with labels) as the compiler wants them; return
    both paths.
    """
    found = load_dataset(services, dataset["dataset"])
    paths = folder / "calibration.npz", folder / "evaluation.npz"
    evaluation = {project.input_name: _flat(found.x_evaluation), "labels": found.y_evaluation}
    for path, arrays in zip(
        paths, ({project.input_name: _flat(found.reference[:CALIBRATION_ROWS])}, evaluation), strict=True
    ):
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        write_durably(path, buffer.getvalue())
    return paths


def _flat(x: Any) -> Any:
    return np.ascontiguousarray(x.reshape(len(x), -1), np.float32)


def _id(rollout: Json) -> str:
    return str(rollout.get("rollout") or rollout["id"])


def _state(rollout: Json) -> str:
    return str(rollout.get("status") or rollout.get("state") or rollout.get("phase") or "")
