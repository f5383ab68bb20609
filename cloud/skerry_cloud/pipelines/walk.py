"""The walk itself: alarm -> select -> label -> dataset -> train -> gate -> compile -> upload -> approve -> roll out
-> done.

Each line that says `step` is a durable boundary. The walk depends on nothing but step results, so that walking it
again after a kill takes the same turns.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from skerry_cloud.pipelines import delivery, labelling, modelling
from skerry_cloud.pipelines.engine import Json, Log, Pipeline, State, Step
from skerry_cloud.services import Services


def walk(services: Services, log: Log, pipeline: Pipeline, step: Step) -> Json:
    """Walk one pipeline; return how it ended (`refused`: why a gate or nobody let it pass)."""
    project = services.project(pipeline.model)
    if pipeline.cause.get("kind") == "first":
        plan = step("plan", partial(modelling.plan_first, services, project))
        dataset = step("dataset", partial(modelling.first_dataset, services, project))
    else:
        plan = step("plan", partial(modelling.plan, services, project, pipeline.cause))
        for number in range(project.labels.rounds + 1):
            step(f"select-{number}", partial(labelling.select, services, project, pipeline.id, plan, number))
            step(f"label-{number}", partial(labelling.label, services, project, pipeline.id))
        dataset = step("dataset", partial(modelling.retrain_dataset, services, project, pipeline.id, plan))
    run = step("train", partial(modelling.train, services, project, pipeline.id, dataset))
    verdict = step("gate", partial(modelling.gate, services, project, plan, dataset, run))
    if not verdict["passed"]:
        return {"refused": verdict["reasons"], "run": run["run"]}
    context = delivery.Context(services, project, pipeline.id)
    bundles = [
        step(f"compile-{t.profile}", partial(delivery.compile_for, context, plan, dataset, run, t))
        for t in project.targets
    ]
    for each in bundles:
        step(f"upload-{each['target']}", partial(delivery.upload, context, each))
    if project.approval == "manual":
        step("approve", partial(_approval, services, log, pipeline.id))
    rollouts: list[Json] = []
    for target, bundle in zip(project.targets, bundles, strict=True):
        if target.deploy:
            rollout = step(f"rollout-{target.profile}", partial(delivery.roll_out, context, bundle, target))
            rollouts.append(step(f"settle-{target.profile}", partial(delivery.settle, context, rollout)))
    return _end(verdict, run, bundles, rollouts)


def _approval(services: Services, log: Log, pipeline: str) -> Json:
    """Wait until a person says yes, however long it takes."""
    log.move(pipeline, State.WAITING)
    while (by := log.get(pipeline).approved_by) is None:
        services.rest(0.5)
    log.move(pipeline, State.RUNNING)
    return {"by": by}


def _end(verdict: Json, run: Json, bundles: list[Json], rollouts: list[Json]) -> Json:
    ended: dict[str, Any] = {
        "run": run["run"],
        "accuracy": verdict["accuracy"],
        "bundles": {each["target"]: each["bundle"] for each in bundles},
        "rollouts": {each["rollout"]: each["state"] for each in rollouts},
    }
    unsettled = [each["state"] for each in rollouts if each["state"] != "complete"]
    if unsettled:
        ended["refused"] = [f"the fleet ended a rollout as {state}" for state in unsettled]
    return ended
