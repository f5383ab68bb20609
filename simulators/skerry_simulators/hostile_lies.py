"""The hostile models that lie to their supervisor, and those that act while they are loaded."""

from __future__ import annotations

from skerry_simulators.hostile_models import ANSWERS, CRASHED, LOAD, TIMEOUT, Hostile

LYING: tuple[Hostile, ...] = (
    Hostile("inf", "answers infinity", ANSWERS, "y[3] = INFINITY;"),
    Hostile("inputs", "writes over its inputs", ANSWERS, "memset((void *)x, 9, ELEMENTS * 4);"),
    Hostile(
        "executable",
        "writes code and runs it",
        ANSWERS,
        "static char code[8192]; char *p = (char *)(((uintptr_t)code + 4095) & ~4095ul);"
        " p[0] = 0xc3; if (!mprotect(p, 4096, PROT_READ | PROT_WRITE | PROT_EXEC) && X86) ((void (*)(void))p)();",
    ),
    Hostile(
        "chatter",
        "writes 100 MB to standard error",
        ANSWERS,
        "static char b[1 << 16]; for (int i = 0; i < 1600; i++) write(2, b, sizeof b);",
    ),
    Hostile("forge", "answers what nobody asked", CRASHED, "DONE(99, 1); sleep(60);"),
    Hostile(
        "flood",
        "floods its supervisor with signs of life",
        CRASHED,
        "unsigned char f = 8; for (;;) if (!say(&f, 1)) sleep(1);",
    ),
    Hostile(
        "big-frame",
        "says more than a frame holds",
        CRASHED,
        "static char f[120000]; f[0] = 77; say(f, sizeof f); sleep(60);",
    ),
    Hostile("time", "says that it took five hundred years", ANSWERS, "DONE(1, 1ull << 63); sleep(60);"),
)

LOADING: tuple[Hostile, ...] = (
    Hostile(
        "load-crash",
        "crashes while it loads",
        LOAD,
        load="__attribute__((constructor)) static void first(void) { *(volatile int *)8 = 1; }",
    ),
    Hostile(
        "load-spin",
        "never ends while it loads",
        LOAD,
        load="__attribute__((constructor)) static void first(void) { spin(); }",
    ),
    Hostile(
        "load-exit",
        "ends its process while it loads",
        LOAD,
        load="__attribute__((constructor)) static void first(void) { exit(0); }",
    ),
    Hostile(
        "load-fork",
        "forks while it loads, dies where it cannot",
        LOAD,
        load="__attribute__((constructor)) static void first(void) { if (fork() < 0) abort(); }",
    ),
    Hostile(
        "load-locked",
        "says that it sits in another sandbox, without end",
        LOAD,
        load='__attribute__((constructor)) static void first(void) { for (;;) if (!say("\\003none", 5)) sleep(1); }',
    ),
    Hostile(
        "load-ready",
        "says that it is ready, and is not",
        TIMEOUT,
        load="__attribute__((constructor)) static void first(void) { char f[9] = {4}; say(f, 9); spin(); }",
    ),
    Hostile("sizes", "says that it takes other tensors", LOAD, load="#define SAYS_INPUTS 1000000000"),
    Hostile("abi", "speaks another interface", LOAD, load="#define OTHER_ABI 99"),
    Hostile("hollow", "is a library without an entry", LOAD, load="#define NO_ENTRY"),
    Hostile("text", "is no library at all", LOAD, load="not a library"),
)
