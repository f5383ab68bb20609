"""The steps that buy labels: choose samples, put them up, wait for votes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from skerry_cloud.config import ProjectConfig
from skerry_cloud.errors import DataError
from skerry_cloud.labels.select import choose
from skerry_cloud.labels.workforce import Oracle, SimulatedWorkforce
from skerry_cloud.lake.batch import SampleBatch, SampleQuery
from skerry_cloud.pipelines.modelling import load_dataset
from skerry_cloud.services import Services
from skerry_contracts.sample import Kept

POOL_ROWS = 3000
AUDIT, TRAIN = "audit", "train"
Json = dict[str, Any]


def job_of(pipeline: str) -> str:
    """Return the id of a pipeline's labelling job."""
    return f"{pipeline}-labels"


def select(services: Services, project: ProjectConfig, pipeline: str, plan: Json, number: int) -> Json:
    """Put batch `number` up for labelling: 0 is the audit, drawn at random from the random-kept samples; the rest is
    chosen.

    A batch is put up whole or not at all, and one that stands is not chosen anew.

    Raises:
        DataError: there is nothing to choose from.
    """
    job, settings = job_of(pipeline), project.labels
    base = load_dataset(services, plan["dataset"])
    services.jobs.create(job, project.model, base.labels, settings)
    standing = services.database.row("SELECT count(*) AS n FROM label_item WHERE job = ? AND batch = ?", (job, number))
    if standing and int(standing["n"]):
        return {"job": job, "batch": number, "items": int(standing["n"])}
    pool = _pool(services, project, plan, patient=number > 0)
    if number == 0:
        random_rows = np.flatnonzero([each is Kept.RANDOM for each in pool.kept])
        order = np.random.default_rng(project.train.seed).permutation(random_rows)
        chosen, purpose = order[: settings.audit], AUDIT
    else:
        chosen = _choose(services, project, job, base, pool, number)
        purpose = TRAIN
    services.jobs.add(job, number, [(pool.predictions[i], purpose) for i in chosen.tolist()])
    return {"job": job, "batch": number, "items": len(chosen)}


def label(services: Services, project: ProjectConfig, pipeline: str) -> Json:
    """Wait until every item of the job is settled; the simulated workforce works here, people on the web page.

    Raises:
        StoppingError: the process is stopping.
    """
    job = job_of(pipeline)
    workers = None
    if project.labels.workforce == "simulated":
        workers = SimulatedWorkforce(services.jobs, Oracle(Path(project.labels.oracle)))
    while True:
        if workers is not None:
            workers.work(job)
        if services.jobs.consolidate(job):
            return services.jobs.ledger(job)
        services.rest(0.1 if workers is not None else 1.0)


def _pool(services: Services, project: ProjectConfig, plan: Json, *, patient: bool) -> SampleBatch:
    """Return the distinct samples since the alarm's window began, of more than `POOL_ROWS` the newest.

    Waits a while for enough of them: for the audit its own number of random ones, later (`patient`) twice the budget.
    """
    query = SampleQuery(project.model, (plan["bundle"],), since_s=plan["since_s"], limit=POOL_ROWS, newest=True)
    settings = project.labels
    until_s = services.now() + settings.pool_wait_s
    while True:
        pool = services.lake.samples(query).finite().distinct()
        have, need = len(pool), 2 * settings.budget
        if not patient:
            have, need = sum(each is Kept.RANDOM for each in pool.kept), settings.audit
        if have >= need or services.now() >= until_s:
            break
        services.rest(0.5)
    if len(pool) == 0:
        raise DataError("there is no sample to label", hint="raise random_share in the model's sampling policy")
    return pool


def _choose(
    services: Services, project: ProjectConfig, job: str, base: Any, pool: SampleBatch, number: int
) -> npt.NDArray[np.int64]:
    settings = project.labels
    put_up = {
        row["prediction"] for row in services.database.rows("SELECT prediction FROM label_item WHERE job = ?", (job,))
    }
    taken = np.flatnonzero([each in put_up for each in pool.predictions])
    left = settings.budget - len(put_up)
    count = left // (settings.rounds - number + 1)
    answered = services.jobs.labelled(job)
    seen = services.lake.by_prediction([prediction for prediction, _, _ in answered]) if answered else None
    rows = next(iter(pool.inputs.values()))
    seen_x = next(iter(seen.inputs.values())) if seen is not None else rows[:0]
    names = np.array(base.labels)
    return choose(
        rows,
        taken,
        base.x,
        names[base.y],
        seen_x,
        np.array([label for _, label, _ in answered]),
        count,
        project.train.seed + number,
    )
