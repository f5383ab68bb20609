"""`skerry cloud …`: serve, train, label, monitor, pipeline, registry, lineage. Heavy libraries load only inside a
command.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from skerry_cloud.errors import CloudError
from skerry_contracts.errors import ContractError

DEFAULT_ROOT = "skerry-cloud"


def main(argv: Sequence[str]) -> int:
    """Run one command; return 0 (done), 1 (refused) or 2 (usage)."""
    arguments = _parser().parse_args(list(argv))
    run: Callable[[argparse.Namespace], int] = arguments.run
    try:
        return run(arguments)
    except (CloudError, ContractError) as error:
        hint = f" ({error.hint})" if error.hint else ""
        print(f"skerry: error: {error}{hint}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="skerry cloud", description="samples to a better model")
    nouns = parser.add_subparsers(dest="noun", required=True, metavar="COMMAND")
    serve = nouns.add_parser("serve", help="run everything: sync, monitors, pipelines, pages")
    _root(serve)
    serve.add_argument("--fleet", required=True, metavar="URL", help="the fleet's address, as http://127.0.0.1:8707")
    serve.add_argument("--key", required=True, metavar="FILE", help="a file with an operator's API key of the fleet")
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--port", type=int, default=8708)
    serve.add_argument("--interval", type=float, default=1.0, metavar="SECONDS", help="between two looks at the fleet")
    serve.set_defaults(run=_serve)
    _train_words(nouns)
    label = _verbs(nouns.add_parser("label", help="labelling jobs, their votes and what they cost"))
    _verb(label, "jobs", _label_jobs, "list the jobs")
    _verb(label, "show", _label_show, "one job with its labels").add_argument("job")
    monitor = _verbs(nouns.add_parser("monitor", help="what the monitors said"))
    _verb(monitor, "show", _monitor_show, "the newest verdicts").add_argument("--model")
    _verb(monitor, "run", _monitor_run, "look now at what is in the lake").add_argument("model")
    pipeline = _verbs(nouns.add_parser("pipeline", help="from an alarm to a new model on the devices"))
    _verb(pipeline, "list", _pipeline_list, "all pipelines")
    _verb(pipeline, "show", _pipeline_show, "one pipeline with its steps").add_argument("pipeline")
    run = _verb(pipeline, "run", _pipeline_run, "ask `skerry cloud serve` to run one now")
    run.add_argument("model")
    run.add_argument("--first", action="store_true", help="train and roll out the project's first model")
    approve = _verb(pipeline, "approve", _pipeline_approve, "let a waiting pipeline roll out")
    approve.add_argument("pipeline")
    approve.add_argument("--by", default="cli", help="who says so")
    registry = _verbs(nouns.add_parser("registry", help="datasets, runs, bundles, rollouts"))
    _verb(registry, "list", _registry_list, "everything registered")
    seal = _verbs(nouns.add_parser("seal", help="keys for samples that nobody else can read"))
    _verb(seal, "create", _seal_create, "make a key; prints the words of a sampling policy")
    lineage = nouns.add_parser("lineage", help="where one prediction came from, down to the labels")
    lineage.add_argument("prediction", metavar="DEVICE/BOOT/COUNTER")
    _reading(lineage)
    lineage.set_defaults(run=_lineage)
    return parser


def _train_words(nouns: Any) -> None:
    train = nouns.add_parser("train", help="train a project's first model, judge it and register it")
    train.add_argument("model")
    train.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="also write model.onnx and its data here")
    _reading(train)
    train.set_defaults(run=_train)


def _verbs(parser: argparse.ArgumentParser) -> Any:
    return parser.add_subparsers(dest="verb", required=True, metavar="VERB")


def _verb(verbs: Any, name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=text)
    _reading(parser)
    parser.set_defaults(run=run)
    return parser


def _root(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", default=DEFAULT_ROOT, help=f"the cloud's folder (default: {DEFAULT_ROOT})")


def _reading(parser: argparse.ArgumentParser) -> None:
    _root(parser)
    parser.add_argument("--json", action="store_true", help="one JSON document instead of text")


def _serve(arguments: argparse.Namespace) -> int:
    from skerry_cloud.app import serve
    from skerry_cloud.config import ServeConfig

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    config = ServeConfig(
        root=arguments.root,
        fleet=arguments.fleet,
        key_file=arguments.key,
        host=arguments.host,
        port=arguments.port,
        sync_interval_s=arguments.interval,
        monitor_interval_s=arguments.interval,
    )
    serve(config, lambda url: print(f"skerry cloud: {url}", flush=True))
    return 0


def _seal_create(arguments: argparse.Namespace) -> int:
    from skerry_cloud import seals

    key = seals.create(Path(arguments.root) / "seal")
    print(json.dumps(seals.policy_words(key)))
    return 0


def _open(arguments: argparse.Namespace) -> Any:
    from skerry_cloud.services import open_services

    return open_services(Path(arguments.root))


def _train(arguments: argparse.Namespace) -> int:
    from skerry_cloud.pipelines import modelling

    services = _open(arguments)
    project = services.project(arguments.model)
    plan = modelling.plan_first(services, project)
    dataset = modelling.first_dataset(services, project)
    # Equal data and settings are one run: the name says so, and asking again trains nothing again.
    run = modelling.train(services, project, modelling.run_name(project, dataset["dataset"]), dataset)
    verdict = modelling.gate(services, project, plan, dataset, run)
    result = {**run, "dataset": dataset["dataset"], "gate": verdict}
    if arguments.output is not None:
        result["files"] = modelling.export(services, project, dataset["dataset"], run["onnx"], arguments.output)
    _say(arguments, result, [f"run {run['run']}: accuracy {verdict['accuracy']:.4f}, model {run['onnx'][:12]}"])
    if not verdict["passed"]:
        print(f"skerry: error: the gate refuses it: {'; '.join(verdict['reasons'])}", file=sys.stderr)
    return 0 if verdict["passed"] else 1


def _label_jobs(arguments: argparse.Namespace) -> int:
    services = _open(arguments)
    jobs = [
        {"id": j.id, "model": j.model, "state": j.state.value, **services.jobs.ledger(j.id)}
        for j in services.jobs.all()
    ]
    lines = [f"{j['id']}  {j['state']}  {j['labelled']} of {j['items']} labelled, {j['votes']} votes" for j in jobs]
    return _say(arguments, {"jobs": jobs}, lines or ["no labelling job yet"])


def _label_show(arguments: argparse.Namespace) -> int:
    services = _open(arguments)
    job = services.jobs.get(arguments.job)
    items = [
        {"prediction": p, "label": label, "purpose": purpose} for p, label, purpose in services.jobs.labelled(job.id)
    ]
    result = {
        "id": job.id,
        "state": job.state.value,
        "classes": list(job.classes),
        "ledger": services.jobs.ledger(job.id),
    }
    lines = [f"{job.id}  {job.state}", *(f"{each['prediction']}  {each['label']}  {each['purpose']}" for each in items)]
    return _say(arguments, {**result, "items": items}, lines)


def _monitor_show(arguments: argparse.Namespace) -> int:
    from skerry_cloud.monitor.verdicts import newest

    found = newest(_open(arguments).database, model=arguments.model)
    return _say(arguments, {"verdicts": [dataclasses.asdict(each) for each in found]}, _verdict_lines(found))


def _monitor_run(arguments: argparse.Namespace) -> int:
    from skerry_cloud.monitor.watch import Watch

    found = Watch(_open(arguments), arguments.model).look()
    return _say(arguments, {"verdicts": [dataclasses.asdict(each) for each in found]}, _verdict_lines(found))


def _verdict_lines(found: Sequence[Any]) -> list[str]:
    lines = []
    for each in found:
        word = "ALARM" if each.alarm else "in order"
        lines.append(f"{each.model}  {each.monitor}  {each.score:.4g} against {each.threshold:.4g}  {word}")
    return lines or ["no full window to judge"]


def _pipeline_list(arguments: argparse.Namespace) -> int:
    found = [dataclasses.asdict(each) for each in _log(arguments).all()]
    lines = [f"{each['id']}  {each['state']}  {each['step']}" for each in found]
    return _say(arguments, {"pipelines": found}, lines or ["no pipeline yet"])


def _pipeline_show(arguments: argparse.Namespace) -> int:
    log = _log(arguments)
    found, steps = log.get(arguments.pipeline), log.steps(arguments.pipeline)
    lines = [f"{found.id}  {found.state}"]
    for each in steps:
        took = f"{each['ended_s'] - each['started_s']:.1f} s" if each["ended_s"] is not None else "running"
        lines.append(f"  {each['step']}  {took}")
    return _say(arguments, {**dataclasses.asdict(found), "steps": steps}, lines)


def _pipeline_run(arguments: argparse.Namespace) -> int:
    services = _open(arguments)
    services.project(arguments.model)
    log = _log(arguments)
    name = f"{arguments.model}-{'first' if arguments.first else 'manual'}-{int(log.now() * 1000)}"
    created = log.create(name, arguments.model, {"kind": "first" if arguments.first else "manual"})
    return _say(arguments, dataclasses.asdict(created), [f"{created.id} waits for `skerry cloud serve` to take it up"])


def _pipeline_approve(arguments: argparse.Namespace) -> int:
    _log(arguments).approve(arguments.pipeline, arguments.by)
    return _say(arguments, {"approved": arguments.pipeline}, [f"{arguments.pipeline} is approved"])


def _log(arguments: argparse.Namespace) -> Any:
    from skerry_cloud.pipelines.engine import Log

    services = _open(arguments)
    return Log(services.database, services.now)


def _registry_list(arguments: argparse.Namespace) -> int:
    listing = _open(arguments).registry.listing()
    lines = []
    for kind, rows in listing.items():
        lines.append(f"{kind}: {len(rows)}")
        lines += [f"  {row.get('id', row.get('sha256', ''))}  {row['model']}" for row in rows]
    return _say(arguments, listing, lines)


def _lineage(arguments: argparse.Namespace) -> int:
    found = _open(arguments).registry.lineage(arguments.prediction)
    lines = [
        f"device    {found['device']}",
        f"kept      {found['kept']}{', captured as ' + found['capture'] if found['capture'] else ''}",
        f"bundle    {found['bundle']} ({found['model']} {found['version'] or 'not known here'})",
        f"model     {found['source'] or 'not known here'}",
        f"run       {found['run'] or 'not trained here'}",
        *(f"dataset   {each['sha256']} ({each['rows']} rows)" for each in found["datasets"]),
        f"labels    {len(found['labels'])} bought, {sum(len(each['votes']) for each in found['labels'])} votes",
    ]
    return _say(arguments, found, lines)


def _say(arguments: argparse.Namespace, document: Any, lines: Sequence[str]) -> int:
    print(json.dumps(document, sort_keys=True) if arguments.json else "\n".join(lines))
    return 0
