"""How far the float32 variants of networks are from the originals: `float_range_share_max`, the largest error of any
element on held-out rows as a share of the outputs' range.

Variants that ship are run here, in the device's own runtime; of those that were measured and do not ship (a runner-up
may be no larger than the winner) the bundle's evidence tells the error.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a file, the folder beside it is not a package yet
from benchmarks import compiler_dense, compiler_roofline

from skerry_compiler import compiling, data, files, foreign, gates
from skerry_compiler.measure import Process, probe_command
from skerry_contracts import codec
from skerry_contracts.evidence import Evidence, Verdict

FLOAT = "fp32"
REFUSED = (Verdict.FAILED, Verdict.INACCURATE)


def shares(bundle: Path, model: Path, evaluation: Path) -> dict[str, float]:
    """Return each float32 candidate's largest error as a share of the outputs' range."""
    found: dict[str, float] = {}
    with files.opened(bundle) as opened, tempfile.TemporaryDirectory(prefix="skerry-") as name:
        folder, signature = Path(name), opened.manifest.signature
        arrays = data.read_npz(evaluation)
        rows = data.inputs_of(arrays, signature.inputs, evaluation.name).head(compiling.EVALUATION_ROWS)
        expected = foreign.original_outputs(model, signature, rows, folder)
        files.unpack(opened, folder)
        (folder / "rows").write_bytes(rows.to_bytes())
        for variant in opened.manifest.variants:
            if variant.precision == FLOAT:
                Process(probe_command(folder, variant.id, folder / "rows", folder / "out"), variant.id).finish()
                answers = data.outputs_of((folder / "out").read_bytes(), signature.outputs, len(rows))
                found[variant.id] = gates.shares(signature, expected, answers)[1]
        told = () if opened.evidence is None else codec.decode(Evidence, opened.evidence).candidates
    values = np.concatenate([each.ravel() for each in expected if each.dtype.kind == "f"])
    span = float(max(values.max(), 0.0) - min(values.min(), 0.0)) or 1.0
    for each in told:
        if each.precision == FLOAT and each.agreement is not None and each.verdict not in REFUSED:
            found.setdefault(each.id, each.agreement.max_abs / span)
    return found


def figures(work: Path, say: Callable[[str], None], only: Sequence[str] = ()) -> dict[str, float]:
    """Return each network's worst share and the worst of all; bundles that other benchmarks left in `work` are used."""
    made: dict[str, float] = {}
    known = compiler_roofline.builders()
    for name in only or known:
        paths = known[name](work)
        found = shares(compiler_dense.compiled(name, paths, work), paths[0], paths[2])
        if found:
            worst = max(found, key=lambda each: found[each])
            made[f"{name}_float_range_share"] = found[worst]
            say(f"{name:<12} {len(found)} float32 candidates, the worst {worst}: {found[worst]:.2e} of the range")
    made["float_range_share_max"] = max(made.values())
    return made


if __name__ == "__main__":
    sys.exit(compiler_dense.command(__doc__ or "", figures, list(compiler_roofline.builders())))
