"""The steps that bring a model to the devices: compile (a command), upload, roll out, wait. The fleet is asked so
that twice is once.
"""

from __future__ import annotations

import dataclasses
import io
import shutil
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from skerry_cloud.config import ProjectConfig, TargetConfig
from skerry_cloud.errors import CommandError, FleetError
from skerry_cloud.files import fresh_folder
from skerry_cloud.pipelines.modelling import export
from skerry_cloud.services import Services
from skerry_cloud.train import run_child
from skerry_contracts.container import open_container
from skerry_contracts.errors import ContractError

Json = dict[str, Any]
T = TypeVar("T")
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

    Raises:
        CommandError: the compiler refuses or takes too long, or leaves no bundle.
    """
    services, project = context.services, context.project
    folder = fresh_folder(services.root / "work", f"{context.pipeline}-{target.profile}")
    bundle = folder / f"{project.model}.skerry"
    files = export(services, project, dataset["dataset"], run["onnx"], folder)
    words = [sys.executable, "-m", "skerry", "compile", files["model"], "--target", target.profile, "--json"]
    words += ["--calibration", files["calibration"], "--evaluation", files["evaluation"], "--model", project.model]
    words += ["--version", f"{plan['release']}.0", "--release", str(plan["release"]), "-o", str(bundle)]
    words += ["--objective", target.objective, "--budget", f"{target.budget_s:g}"]
    run_child(words, timeout_s=project.compile_timeout_s, what=f"compiling for {target.profile}")
    try:
        with bundle.open("rb") as file:
            container = open_container(file)
            container.verify()
            manifest, bundle_id = container.manifest, container.bundle_id
    except (OSError, ContractError) as error:
        raise CommandError(f"compiling for {target.profile} left no whole bundle: {error}") from error
    sha256 = services.registry.files.put_file(bundle)
    size_bytes = bundle.stat().st_size
    shutil.rmtree(folder, ignore_errors=True)
    return {
        "target": target.profile,
        "bundle": bundle_id,
        "file": sha256,
        "size_bytes": size_bytes,
        "variants": [variant.id for variant in manifest.variants],
    }


def upload(context: Context, bundle: Json) -> Json:
    """Register a bundle and give the fleet its file; a bundle it has already stays as it is.

    Not before: compiling twice may choose another variant, and only one of the two shall be known.

    Raises:
        FleetError: the fleet refuses, or cannot be reached for an hour.
    """
    services, model = context.services, context.project.model
    data = services.registry.files.read(bundle["file"])
    services.registry.add_bundle(bundle["bundle"], open_container(io.BytesIO(data)).manifest)
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


def _id(rollout: Json) -> str:
    return str(rollout["id"])


def _state(rollout: Json) -> str:
    return str(rollout["status"])
