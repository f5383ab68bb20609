"""Processor features: Linux's names (as in /proc/cpuinfo; for RISC-V the extensions of its `isa` line), the names of
LLVM behind `-mcpu`, and the x86-64 levels.

Levels are those of the x86-64 psABI supplement (v1 to v4). Where there is no Linux to name a feature, the instruction
set's own name stands: Arm's for Cortex-M, WebAssembly's for WebAssembly.
"""

from __future__ import annotations

import difflib

X86_V1 = ("sse", "sse2")
X86_V2 = (*X86_V1, "cx16", "lahf_lm", "pni", "popcnt", "sse4_1", "sse4_2", "ssse3")
X86_V3 = (*X86_V2, "abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "xsave")
X86_V4 = (*X86_V3, "avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl")

# Linux's name -> LLVM's.
LLVM_NAMES: dict[str, dict[str, str]] = {
    "x86_64": {
        "abm": "lzcnt",
        "amx_bf16": "amx_bf16",
        "amx_int8": "amx_int8",
        "amx_tile": "amx_tile",
        "avx": "avx",
        "avx2": "avx2",
        "avx512_bf16": "avx512bf16",
        "avx512_fp16": "avx512fp16",
        "avx512_vbmi2": "avx512vbmi2",
        "avx512_vnni": "avx512vnni",
        "avx512bw": "avx512bw",
        "avx512cd": "avx512cd",
        "avx512dq": "avx512dq",
        "avx512f": "avx512f",
        "avx512vbmi": "avx512vbmi",
        "avx512vl": "avx512vl",
        "avx_vnni": "avxvnni",
        "bmi1": "bmi",
        "bmi2": "bmi2",
        "cx16": "cx16",
        "f16c": "f16c",
        "fma": "fma",
        "lahf_lm": "sahf",
        "movbe": "movbe",
        "pni": "sse3",
        "popcnt": "popcnt",
        "sse": "sse",
        "sse2": "sse2",
        "sse4_1": "sse4_1",
        "sse4_2": "sse4_2",
        "ssse3": "ssse3",
        "xsave": "xsave",
    },
    "aarch64": {
        "aes": "aes",
        "asimd": "neon",
        "asimddp": "dotprod",
        "asimdfhm": "fp16fml",
        "asimdhp": "fullfp16",
        "asimdrdm": "rdm",
        "atomics": "lse",
        "bf16": "bf16",
        "crc32": "crc",
        "fp": "fp_armv8",
        "fphp": "fullfp16",
        "i8mm": "i8mm",
        "pmull": "aes",
        "sha1": "sha2",
        "sha2": "sha2",
        "sve": "sve",
        "sve2": "sve2",
    },
    "armv7l": {
        "asimddp": "dotprod",
        "crc32": "crc",
        "edsp": "dsp",
        "idiva": "hwdiv_arm",
        "idivt": "hwdiv",
        "neon": "neon",
        "thumb": "thumb_mode",
        "vfp": "vfp2",
        "vfpd32": "d32",
        "vfpv3": "vfp3",
        "vfpv3d16": "vfp3d16",
        "vfpv4": "vfp4",
    },
    "armv6l": {"edsp": "dsp", "thumb": "thumb_mode", "vfp": "vfp2"},
    "riscv64": {
        "a": "a",
        "c": "c",
        "d": "d",
        "f": "f",
        "m": "m",
        "v": "v",
        "zba": "zba",
        "zbb": "zbb",
        "zbs": "zbs",
        "zfh": "zfh",
        "zvfh": "zvfh",
    },
    "riscv32": {"a": "a", "c": "c", "f": "f", "m": "m"},
    "thumb": {
        "dsp": "dsp",
        "fp16": "fullfp16",
        "fpv4-sp": "vfp4d16sp",
        "fpv5-dp": "fp_armv8d16",
        "fpv5-sp": "fp_armv8d16sp",
        "mve": "mve",
        "mve.fp": "mve_fp",
    },
    "wasm32": {
        "bulk-memory": "bulk_memory",
        "relaxed-simd": "relaxed_simd",
        "simd128": "simd128",
        "threads": "atomics",
    },
}
LLVM_NAMES["i686"] = {name: LLVM_NAMES["x86_64"][name] for name in (*X86_V1, "pni", "sse4_1", "sse4_2", "ssse3")}


def unknown(machine: str, features: tuple[str, ...]) -> list[str]:
    """Return a sentence for each feature that is not known for this machine, with the nearest one that is."""
    known = LLVM_NAMES.get(machine, {})
    said = []
    for feature in features:
        if feature not in known:
            near = difflib.get_close_matches(feature, known, 1, 0.5)
            said.append(
                f"{feature!r:.40} is no known feature of {machine}" + (f"; did you mean {near[0]!r}?" if near else "")
            )
    return said
