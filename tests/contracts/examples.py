"""One full example of every record: the walk, and the golden bytes, are made from these."""

from __future__ import annotations

from typing import Any

from skerry_contracts import (
    assignment,
    bundle,
    carried,
    carried_update,
    delta,
    device,
    enrolment,
    evidence,
    frequent,
    measuring,
    quantiles,
    sample,
    sealed,
    shadow,
    sketch,
)
from skerry_contracts.tensor import DType, Tensor, TensorSpec

A, B, C = "a" * 64, "b" * 64, "c" * 64
BOOT = "00000007-0badcafe"

IMAGE = TensorSpec("image", DType.FP32, (1, 4))
SCORES = TensorSpec("scores", DType.FP32, (1, 2))
LABEL = TensorSpec("label", DType.INT64, (1,))
SIGNATURE = bundle.Signature((IMAGE,), (LABEL, SCORES), ("cat", "dog"), "label", "scores")
PREDICATES = bundle.Predicates("linux", "x86_64", ("avx2", "fma"), "glibc", "2.28", None)
VARIANT = bundle.Variant(
    "native-f32", "native", "fp32", {"library": bundle.Blob(A, 4096)}, PREDICATES, 65536, {"form": "table"}
)
GOLDEN = bundle.Golden(2, bundle.Blob(B, 32), bundle.Blob(C, 32), 1e-5, 1e-4, True)
CONTRACT = bundle.Contract(0.95, 2.5, 1 << 20)
BASELINE = bundle.Baseline("input:image:0", (0.0, 0.5, 1.0), (0, 10, 20, 1))
RECIPE = bundle.Recipe(
    "0.1.0", A, "onnx", "x86-64-v3", B, C, ("native-f32",), {"objective": "latency"}, {"zig": "0.17.1"}
)
MANIFEST = bundle.Manifest(
    1, "pets", "1.2.0", 3, "x86-64-v3", SIGNATURE, (VARIANT,), GOLDEN, CONTRACT, (BASELINE,), RECIPE
)
MEASUREMENT = evidence.Measurement(0.5, 0.75, 10.5, 12.0, 4096)
AGREEMENT = evidence.Agreement(0.9999, 1e-6, 1.0, 0.97)
CANDIDATE = evidence.Candidate(
    "native-f32", "native", "fp32", evidence.Verdict.CHOSEN, "fastest that agrees", MEASUREMENT, AGREEMENT
)
EVIDENCE = evidence.Evidence(
    A, "x86-64-v3", "host", "a cpu", 1_700_000_000, (CANDIDATE,), MEASUREMENT, 0.97, ("quiet",)
)
MEASURE = measuring.MeasureOrder(
    "m3-0badcafe", "1.2.0", 3, B, f"{measuring.MODEL}/{B}.json", 2048, 1_800_000_000, 120, 4, 1 << 28, 1 << 27
)
_TIMES: tuple[Any, ...] = (
    (1500, 1400),
    (3000, 2900),
    0.0015,
    0.002,
    0.0025,
    3.5,
    1 << 24,
    400,
    1,
    2,
    b"\0\0\0\0\0\0\x80?",
)
MEASURED = measuring.MeasuredCandidate(
    "native-f32", "native", "fp32", measuring.Outcome.MEASURED, "", "ort-plain", *_TIMES
)
BOARD = evidence.Board(
    "raspberry-pi-4",
    "pi-3",
    "Cortex-A72",
    "0.1.0",
    1_700_000_000,
    "ort-plain",
    "m3-0badcafe",
    {"native": "1"},
    ("cool",),
)
WINDOW = assignment.Window(120, 240)
SAMPLING = assignment.SamplingPolicy(0.05, 0.2, 50_000, 60)
ASSIGNED = assignment.AssignedModel(
    "pets", "1.2.0", 3, A, assignment.target_path("pets", A), 2048, "r-1", False, WINDOW, SAMPLING
)
HARDWARE = device.Hardware(
    "linux", "x86_64", "a cpu", ("avx2",), 4, 1 << 32, "glibc", "2.36", "x86-64-v3", "0.1.0", {"native": "1"}
)
HEALTH = device.ModelHealth(
    "pets", "1.2.0", A, "native-f32", device.ModelState.SERVING, 9, 1, 0, 0.2, 0.4, 1 << 20, 0.9
)
SPOOL = device.SpoolHealth(10, 7, 2, 1, 512)
TENSOR = Tensor("scores", DType.FP32, (1, 2), b"\0\0\0\0\0\0\x80?")
HISTOGRAM = sketch.Histogram("input:image:0", (0, 3, 4, 0), 1)
MOMENTS = sketch.Moments("confidence", 3, 0.5, 0.25, 0.1, 0.9)
QUANTILES = quantiles.Quantiles("confidence", 4, 0.1, 0.9, ((0.3, 0.9), (0.25,)), 200)
FREQUENT = frequent.Frequent("label", 7, 2, {"cat": 3, "dog": 1}, 1)
DRIFT = device.Drift("pets", A, "input:image:mean", 0.5, 0.75, 96, 12.5)
SEAL_KEY = sealed.SealKey(b"\xff" * 256)
SEALED = sealed.Sealed(A, b"k" * 256, b"n" * 12, b"data and its tag")
ALARM = assignment.DriftAlarm(5.0, 900, 0.001)
SIGNED = assignment.KeySignature(B, b"signature")
CARRIED_MESSAGE = carried.CarriedMessage("progress", b"{}")
UPDATE_FILE = carried_update.File(f"/blobs/{A}", 4096)
SHADOW = shadow.Shadow("s3-0badcafe", "1.3.0", 4, B, assignment.target_path("pets", B), 2048, 1_800_000_000)
SHADOW_ANSWER = shadow.ShadowAnswer("s3-0badcafe", B, "1.3.0", (TENSOR,))

EXAMPLES: tuple[Any, ...] = (
    IMAGE,
    TENSOR,
    VARIANT.blobs["library"],
    SIGNATURE,
    PREDICATES,
    VARIANT,
    GOLDEN,
    CONTRACT,
    BASELINE,
    RECIPE,
    MANIFEST,
    MEASUREMENT,
    AGREEMENT,
    CANDIDATE,
    evidence.Unsupported("Loop", 17, ("steps",), 1, "none here", "the body written out", "ai.onnx"),
    EVIDENCE,
    SIGNED,
    assignment.Envelope(assignment.ASSIGNMENT_TYPE, b"{}", (SIGNED,), BOOT, 4),
    WINDOW,
    SAMPLING,
    ASSIGNED,
    assignment.Assignment("default", "gate-1", 5, 1_700_000_000, 1_800_000_000, (ASSIGNED,)),
    assignment.Receipt("default", "gate-1", 5, "pets", A, "native-f32", 1_700_000_000, 2, 0.2, 0.4, 1 << 20),
    device.Presence(BOOT, 2, True),
    HARDWARE,
    HEALTH,
    SPOOL,
    device.Heartbeat(BOOT, 3, 1.7e9, 60.5, 5, (HEALTH,), SPOOL, 1 << 25, 1 << 30, 41.5, ("clock",), HARDWARE),
    device.Progress(BOOT, 4, 1.7e9, 5, "r-1", "pets", A, device.Phase.FAILED, device.Reason.GOLDEN, "row 1", 10, 20),
    device.Received(BOOT, (1, 2, 3)),
    device.Ack((device.Received(BOOT, (1, 2, 3)),)),
    sample.Sample(
        BOOT,
        5,
        1.7e9,
        f"gate-1/{BOOT}/12",
        "pets",
        "1.2.0",
        A,
        "native-f32",
        sample.Kept.RANDOM,
        20.0,
        (TENSOR,),
        (TENSOR,),
        0.6,
    ),
    HISTOGRAM,
    MOMENTS,
    QUANTILES,
    FREQUENT,
    ALARM,
    DRIFT,
    SEAL_KEY,
    SEALED,
    sealed.PackedHead((IMAGE,), (SCORES,), {"inputs:0": A}),
    sketch.Sketch(BOOT, 6, 1.7e9, 1.7e9 + 60, "pets", A, "native-f32", 8, (HISTOGRAM,), (MOMENTS,)),
    enrolment.ClaimToken("abcdefgh", "s" * 43, A),
    enrolment.Trust("default", "PEM", b'{"signed":{}}', ("PEM",)),
    enrolment.EnrolmentRequest("abcdefgh", "s" * 43, "PEM", HARDWARE, "gate-1"),
    delta.Delta("a" * 64, "b" * 64, 4096, "tensor", 4),
    delta.DeltaOffer("a" * 64, "c" * 64, 512, "tensor"),
    enrolment.RenewalRequest("default", "gate-1", "PEM", 1_700_000_000_000),
    enrolment.Renewal("PEM"),
    enrolment.Enrolment("default", "gate-1", "PEM", "localhost", 8883, "token"),
    CARRIED_MESSAGE,
    carried.Carried("default", "gate-1", 0, True, (CARRIED_MESSAGE,)),
    carried.CarriedAck("default", "gate-1", 0, True, (device.Received(BOOT, (1, 2, 3)),)),
    UPDATE_FILE,
    carried_update.Update(carried_update.FORMAT, b"envelope", (UPDATE_FILE,)),
    SHADOW,
    SHADOW_ANSWER,
    MEASURE,
    MEASURED,
    measuring.MeasureReport(
        BOOT, 8, 1.7e9, "m3-0badcafe", B, measuring.MeasureState.MEASURING, candidate=MEASURED, reported=2, notes=("x",)
    ),
    BOARD,
    shadow.ShadowReport(
        BOOT,
        7,
        "s3-0badcafe",
        "pets",
        B,
        shadow.ShadowState.RUNNING,
        1.7e9,
        1.7e9 + 300,
        device.Reason.OK,
        "no temperature sensor",
        A,
        20,
        12,
        3,
        6,
        1,
        2.5,
        1 << 24,
        sketch.Histogram("latency_ms", (0, 12)),
        sketch.Histogram("latency_ms", (0, 10, 2)),
    ),
)

# Records with the fields that came after their first release, filled: golden bytes in v2.
LATER: tuple[Any, ...] = (
    device.Heartbeat(BOOT, 3, 1.7e9, 60.5, 5, (HEALTH,), SPOOL, 1 << 25, 1 << 30, 41.5, ("clock",), HARDWARE, (DRIFT,)),
    assignment.SamplingPolicy(
        0.05,
        0.2,
        50_000,
        60,
        0.01,
        0.02,
        {"novel": 0.25, "rare": 0.1},
        ("confidence", "input:image:mean"),
        32,
        "features",
        ALARM,
        1_700_000_600,
        SEAL_KEY,
    ),
    sketch.Sketch(
        BOOT, 6, 1.7e9, 1.7e9 + 60, "pets", A, "native-f32", 8, (HISTOGRAM,), (MOMENTS,), (QUANTILES,), (FREQUENT,)
    ),
    sample.Sample(
        BOOT,
        5,
        1.7e9,
        f"gate-1/{BOOT}/12",
        "pets",
        "1.2.0",
        A,
        "native-f32",
        sample.Kept.REQUESTED,
        1.0,
        (),
        (),
        0.6,
        "defect-17",
        SEALED,
    ),
    assignment.AssignedModel(
        "pets", "1.2.0", 3, A, assignment.target_path("pets", A), 2048, "r-1", False, WINDOW, SAMPLING, SHADOW
    ),
    assignment.Assignment("default", "gate-1", 5, 1_700_000_000, 1_800_000_000, (ASSIGNED,), MEASURE),
    evidence.Evidence(
        A,
        "raspberry-pi-4",
        "device",
        "a cpu",
        1_700_000_000,
        (CANDIDATE,),
        MEASUREMENT,
        0.97,
        ("quiet",),
        False,
        "latency",
        64,
        {"Gemm": 2},
        BOARD,
    ),
)

# As above, a release later: golden bytes in v3.
LATEST: tuple[Any, ...] = (
    sample.Sample(
        BOOT,
        5,
        1.7e9,
        f"gate-1/{BOOT}/12",
        "pets",
        "1.2.0",
        A,
        "native-f32",
        sample.Kept.DISAGREEING,
        1.0,
        (TENSOR,),
        (TENSOR,),
        0.6,
        None,
        None,
        SHADOW_ANSWER,
    ),
)
