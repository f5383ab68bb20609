"""Memory of one real enrolled agent, idle and with a native model, beside what libraries alone take in the same run."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from skerry_agent.client import LocalClient
from skerry_simulators.demo import street as parts
from skerry_simulators.demo.data import deal
from skerry_simulators.demo.memory import children_of, pss_bytes
from skerry_simulators.demo.processes import Children, run, skerry, wait_for

SETTLE_S = 3.0
TRUST_IDLE_S = 12.0  # the child that checks signatures ends after ten idle seconds
IDLE = "import sys, time; {imports}; print('up', flush=True); sys.stdin.read()"


def bare_mb(imports: str) -> float:
    """Return the memory (PSS, MB) of a Python process that only imports."""
    command = [sys.executable, "-c", IDLE.format(imports=imports)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None and child.stdin is not None
        child.stdout.readline()
        found = pss_bytes(child.pid) / 1e6
        child.stdin.close()
    return found


def trained(folder: Path) -> Path:
    """Return a digits perceptron compiled for this machine."""
    from skl2onnx import to_onnx
    from sklearn.neural_network import MLPClassifier

    train = deal(0, ()).train
    model = MLPClassifier((64,), max_iter=60, random_state=0, tol=1e-2).fit(train.images, train.labels)
    onnx = to_onnx(model, train.images[:1], options={"zipmap": False})
    (folder / "model.onnx").write_bytes(onnx.SerializeToString())
    np.savez(folder / "rows.npz", X=train.images[:200])
    words = ["compile", str(folder / "model.onnx"), "--target", "host", "--calibration", str(folder / "rows.npz")]
    bundle = folder / "digits.skerry"
    words += ["--model", parts.MODEL, "--version", "1.0", "--release", "1", "-o", str(bundle)]
    run("compile", skerry(*words), folder)
    return bundle


def figures() -> dict[str, float]:
    """Return memory in MB (PSS)."""
    with tempfile.TemporaryDirectory(prefix="skerry-") as name:
        root = Path(name)
        children = Children(root / "logs")
        street = parts.Street(root, children)
        try:
            bundle = trained(root)
            parts.start_fleet(street)
            parts.start_devices(street, 1)
            device, socket = next(iter(street.sockets.items()))
            pid = children.pid(device)
            time.sleep(SETTLE_S)
            idle_mb = pss_bytes(pid) / 1e6
            street.fleet("model", "register", parts.MODEL)
            stored = street.fleet("bundle", "upload", str(bundle))["id"]
            plan = ["--model", parts.MODEL, "--bundle", stored, "--group", parts.GROUP, "--soak-s", "1"]
            street.fleet("rollout", "start", *plan)
            wait_for("model", lambda: parts.serving(street, stored) or None, children, 120.0)
            with LocalClient(socket) as client:
                for _ in range(200):
                    client.infer(parts.MODEL, {"X": [0.5] * 64}, sample=False)
            time.sleep(TRUST_IDLE_S)
            total_mb = (pss_bytes(pid) + sum(pss_bytes(child) for child in children_of(pid))) / 1e6
            return {
                "supervisor_rss_mb": idle_mb,
                "agent_native_rss_mb": total_mb,
                "bare_onnxruntime_rss_mb": bare_mb("import onnxruntime"),
                "paho_asyncio_rss_mb": bare_mb("import asyncio, ssl, paho.mqtt.client"),
            }
        finally:
            children.stop()


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_known_args()
    print(json.dumps({"figures": {key: round(value, 2) for key, value in figures().items()}}))
