"""Figures of the device agent in one run; with --json the last line is `{"figures": {KEY: number}}`.

    python benchmarks/agent.py [--json] [--long] [--only PART ...] [--cycles N]

    memory   supervisor_rss_mb, agent_total_rss_mb: a real enrolled agent, idle and with a native model (PSS, all
             processes)
    infer    the median and 99th percentile of one inference of 150 kB, less the same engine called in this process:
             shm_overhead_*: a program on the device with tensors in shared memory (fast channel), writing its input
             included;
             http_overhead_*: the same with binary tensors over the Unix socket; worker_overhead_*: inside the agent,
             from its loop to the worker and back
    grpc     grpc_http_ratio, grpc_http_overhead_*: the same inference over gRPC beside HTTP; grpc_front_pss_mb: the
             front process, which there is only where gRPC is asked for
    unload   unload_leak_mb: how much the agent grew over many times unload and load; cold_start_ms: one load
    evict    evict_cold_start_ms: an inference of a model that had left to make room, all of it
    throughput  infer_per_s_CxI: inferences a second over the Unix socket with C clients and I workers of one model;
             cpu_us_CxI: the agent's processor time for one; two_over_one_C: what a second worker brings C clients;
             ready_over_plain_C, ready_over_plain_cpu_C: what laying requests ready does to either, with one worker;
             lone_p50_us_x1, _plain: what one client waits; the same of trained networks (kws_..., where the shared
             models are)
    kill     kill_points, kill_violations: one update, killed at every durable system call (strace; else a wrapper)
    hostile  hostile_models, hostile_survived: models that attack, in real workers beside one that behaves
    mutants  mutants, mutants_killed: safety bugs planted in copies of the agent, and those that its tests noticed
    triton   triton_checks, triton_passed: NVIDIA's client, unchanged, over HTTP and gRPC (tritonclient[http,grpc])
    tuf      tuf_checks, tuf_passed: the public TUF conformance suite against `skerry agent tuf-client` (its checkout in
             the folder that SKERRY_TUF_CONFORMANCE names, and the program faketime)

    faults   updates_faulted, updates_succeeded, bricks: worlds that update under some twenty kinds of fault
    clock    clock_interruptions: inferences that found no model because the clock was wrong, in simulation and of a
             real agent (clock_real_inferences; needs the program faketime); clock_resume_polls: the most heartbeats
             from the right clock until a waiting update goes on; clock_real_stuck: updates that never did
    delta    delta_head_ratio, delta_int8_ratio: bytes of an update by difference over the whole, the worst of several
             networks and seeds

Long parts, only with --long or by name:

    errors   disk_errors, disk_error_violations: one update, each of its durable operations failing in each way (a full
             disk, an I/O error, read-only; once, from there on, for real)
    powercut powercut_images, powercut_violations: block images of a device whose power went, and those on which a
             promise was broken (root, FUSE, loop devices)
    vmcuts   vmcuts, vmcut_violations: virtual machines killed in mid-life, and those after which a promise was broken;
             the latter count in powercut_violations, too (QEMU, and a kernel: docs/simulators.md)
    samples  samples, samples_lost, samples_duplicated: stored while broker, manager and devices are killed and a tenth
             of all packets is lost; samples_kills, samples_rate (stored a second), samples_given_up (and counted)

A part that cannot run here says so and leaves its keys out. Whatever is compared is measured in the same run.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a file, the folder beside it is not a package yet
from benchmarks.agent_options import Options

from skerry_agent.errors import AgentError
from skerry_simulators.errors import SimulatorError

# part: module with a function of the part's name
PARTS = {
    "memory": "agent_runtime",
    "infer": "agent_runtime",
    "grpc": "agent_grpc",
    "unload": "agent_runtime",
    "evict": "agent_runtime",
    "throughput": "agent_throughput",
    "kill": "agent_proofs",
    "hostile": "agent_proofs",
    "mutants": "agent_proofs",
    "faults": "agent_faults",
    "clock": "agent_faults",
    "delta": "agent_faults",
    "triton": "agent_external",
    "tuf": "agent_external",
}
# the same, only with --long (or by name): each takes from minutes to hours
LONG: dict[str, str] = {
    "errors": "agent_proofs",
    "powercut": "agent_power",
    "vmcuts": "agent_power",
    "samples": "agent_samples",
}
# key: (must reach, aims at); all at most, but for those in AT_LEAST
GOALS = {
    "supervisor_rss_mb": (32, 26),
    "agent_total_rss_mb": (52, 42),
    "shm_overhead_p50_us": (50, 20),
    "shm_overhead_p99_us": (150, 50),
    "http_overhead_p50_us": (400, 150),
    "unload_leak_mb": (2, 0),
    "kill_violations": (0, 0),
    "disk_error_violations": (0, 0),
    "updates_faulted": (10_000, 100_000),
    "updates_succeeded_percent": (99.9, 100),
    "bricks": (0, 0),
    "clock_interruptions": (0, 0),
    "clock_real_stuck": (0, 0),
    "clock_resume_polls": (1, 1),
    "delta_head_ratio": (0.05, 0.03),
    "delta_int8_ratio": (0.25, 0.15),
    "powercut_images": (2000, 10_000),
    "vmcuts": (50, 500),
    "powercut_violations": (0, 0),
    "tuf_passed": (112, 113),
    "samples": (1_000_000, 1_000_000),
    "samples_lost": (0, 0),
    "samples_duplicated": (0, 0),
}
# what counts how much was tried, or went well
AT_LEAST = {
    "powercut_images",
    "vmcuts",
    "samples",
    "tuf_passed",
    "updates_faulted",
    "updates_succeeded_percent",
}


def run(part: str, options: Options) -> dict[str, float]:
    """Return a part's figures; none where it cannot be measured here, which is said."""
    print(f"{part} ...", file=sys.stderr, flush=True)
    try:
        module = importlib.import_module(f"benchmarks.{(PARTS | LONG)[part]}")
        measure: Callable[[Options], dict[str, float]] = getattr(module, part)
        return measure(options)
    except (AgentError, SimulatorError, ImportError, OSError, subprocess.SubprocessError, RuntimeError) as error:
        hint = getattr(error, "hint", "")
        words = f"{error} ({hint})" if hint else f"{error}"
        print(f"{part}: cannot be measured here: {words}", file=sys.stderr, flush=True)
        return {}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="only the figures, on the last line; progress on stderr")
    parser.add_argument("--long", action="store_true", help="the long parts, too")
    parser.add_argument("--only", nargs="+", choices=[*PARTS, *LONG], help="only these parts")
    for field in dataclasses.fields(Options):
        words = f"{field.metadata['help']} (default {field.default})"
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=int, default=field.default, help=words)
    arguments = parser.parse_args()
    options = Options(**{field.name: getattr(arguments, field.name) for field in dataclasses.fields(Options)})
    found: dict[str, float] = {}
    for part in arguments.only or [*PARTS, *(LONG if arguments.long else ())]:
        found |= run(part, options)
    if "vmcut_violations" in found:
        found["powercut_violations"] = found.get("powercut_violations", 0) + found["vmcut_violations"]
    if not arguments.json:
        for key, value in found.items():
            goal, way = GOALS.get(key), "at least" if key in AT_LEAST else "at most"
            words = f"   {way} {goal[0]:g}, aim {goal[1]:g}" if goal is not None else ""
            print(f"{key:<24} {value:>10.4g}{words}")
    print(json.dumps({"figures": {key: round(value, 4) for key, value in found.items()}}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
