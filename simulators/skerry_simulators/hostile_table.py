"""The table of hostile models: one row for each thing a model might try against the device that runs it."""

from __future__ import annotations

from skerry_simulators.hostile_lies import LOADING, LYING
from skerry_simulators.hostile_models import ANSWERS, CRASHED, REFUSED, TIMEOUT, UNHEALTHY, Hostile

_DYING = (
    Hostile("null", "writes to address 8", CRASHED, "*(volatile int *)8 = 1;"),
    Hostile("nowhere", "jumps to address 16", CRASHED, "((void (*)(void))16)();"),
    Hostile("divide", "divides by zero", CRASHED, "sink = 1 / zero; raise(SIGFPE);"),
    Hostile("abort", "aborts", CRASHED, "abort();"),
    Hostile("exit", "ends its process with status 0", CRASHED, "exit(0);"),
    Hostile("stack", "recurses without end", CRASHED, "sink = deep(0);"),
    Hostile("free", "frees what was never allocated", CRASHED, "free((void *)y + 8);"),
    Hostile("past-outputs", "writes 64 MB past its outputs", CRASHED, "memset(y, 7, 64u << 20);"),
    Hostile(
        "escapes",
        "dies with terminal escapes as its last words",
        CRASHED,
        r'write(2, "\033[2J\033]0;owned\007\rall is well", 28); abort();',
    ),
    Hostile("closes", "closes every descriptor and goes on", CRASHED, "for (int f = 0; f < 64; f++) close(f); spin();"),
    Hostile("nan", "answers NaN", UNHEALTHY, "y[3] = NAN;"),
    Hostile("fails", "returns an error", UNHEALTHY, "return 7;"),
)

_LATE = (
    Hostile("spin", "never ends", TIMEOUT, "spin();"),
    Hostile("sleep", "sleeps for a day", TIMEOUT, "sleep(86400);"),
    Hostile(
        "deadlock",
        "waits for itself",
        TIMEOUT,
        "pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER; pthread_mutex_lock(&m); pthread_mutex_lock(&m);",
    ),
    Hostile("stop", "stops its own process", TIMEOUT, "raise(SIGSTOP);"),
    Hostile(
        "deaf",
        "ignores every signal and never ends",
        TIMEOUT,
        "for (int s = 1; s < 65; s++) signal(s, SIG_IGN); spin();",
    ),
    Hostile("slow", "takes ten times as long", ANSWERS, "struct timespec t = {0, 100000000}; nanosleep(&t, 0);"),
    Hostile(
        "last-spin",
        "ends its process and never ends in its destructor",
        TIMEOUT,
        code="exit(0);",
        load="__attribute__((destructor)) static void last(void) { spin(); }",
    ),
)

_GREEDY = (
    Hostile("6gb", "allocates 6 GB", REFUSED, "char *volatile p = malloc(6ull << 30); TOLD(p ? 0 : errno);"),
    Hostile(
        "hog",
        "allocates and touches memory until refused",
        REFUSED,
        "char *volatile p = 0; for (int i = 0; i < 64 && (p = malloc(64u << 20)); i++)"
        " for (size_t k = 0; k < (64u << 20); k += 4096) p[k] = 1; TOLD(p ? 0 : errno);",
    ),
    Hostile(
        "terabyte",
        "maps a terabyte without a reserve",
        REFUSED,
        "void *p = mmap(0, 1ull << 40, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);"
        " TOLD(p == MAP_FAILED ? errno : 0);",
    ),
    Hostile(
        "limits",
        "raises its own limits",
        REFUSED,
        "struct rlimit r = {RLIM_INFINITY, RLIM_INFINITY}; TRY(setrlimit(RLIMIT_AS, &r));"
        " TRY(setrlimit(RLIMIT_FSIZE, &r));"
        " TRY(setrlimit(RLIMIT_NOFILE, &r)); TRY(prlimit(boss, RLIMIT_NOFILE, &r, 0));",
    ),
    Hostile(
        "descriptors",
        "opens files until refused",
        REFUSED,
        'int f = 0; for (int i = 0; i < 100000 && f >= 0; i++) f = open("/dev/null", O_RDONLY);'
        " TOLD(f < 0 ? errno : 0);",
    ),
    Hostile(
        "threads",
        "starts ten thousand threads",
        REFUSED,
        "int no = 0; for (int i = 0; i < 10000 && !no; i++) { pthread_t t; no = pthread_create(&t, 0, rest, 0); }"
        " TOLD(no);",
    ),
    Hostile(
        "fork",
        "forks",
        REFUSED,
        "TRY(fork()); SYS(clone, SIGCHLD, 0, 0, 0, 0); SYS(clone3, 0, 0);",
    ),
    Hostile(
        "priority",
        "takes the processor for itself",
        REFUSED,
        "TRY(setpriority(PRIO_PROCESS, 0, -20));"
        " struct sched_param p = {50}; TRY(sched_setscheduler(0, SCHED_FIFO, &p));"
        " cpu_set_t c; CPU_ZERO(&c); CPU_SET(0, &c);"
        " TRY(sched_setaffinity(boss, sizeof c, &c)); SYS(ioprio_set, 1, 0, 0);",
    ),
    Hostile(
        "disk",
        "fills the disk",
        REFUSED,
        'TRY(open("/tmp", O_TMPFILE | O_RDWR, 0600)); TRY(open(OUTSIDE "/big", O_CREAT | O_WRONLY, 0600));'
        ' SYS(memfd_create, "big", 0); SYS(fallocate, 3, 0, 0, 1 << 30);',
    ),
    Hostile(
        "timers",
        "sets timers that outlast it",
        REFUSED,
        "SYS(setitimer, 0, 0, 0); SYS(timer_create, 0, 0, 0); SYS(timerfd_create, 0, 0);",
    ),
)

_OUTSIDE = (
    Hostile(
        "exec",
        "becomes a shell",
        REFUSED,
        'char *a[] = {"sh", 0}; TRY(execv("/bin/sh", a)); SYS(execveat, -100, "/bin/sh", a, 0, 0);',
    ),
    Hostile(
        "sockets",
        "opens sockets of every family",
        REFUSED,
        "TRY(socket(AF_INET, SOCK_STREAM, 0)); TRY(socket(AF_INET6, SOCK_DGRAM, 0));"
        " TRY(socket(AF_UNIX, SOCK_STREAM, 0));"
        " TRY(socket(AF_NETLINK, SOCK_RAW, 0)); TRY(socket(AF_VSOCK, SOCK_STREAM, 0)); int p[2];"
        " TRY(socketpair(AF_UNIX, SOCK_STREAM, 0, p));",
    ),
    # boss is checked: where it cannot be had, kill(-1) would be everybody.
    Hostile(
        "kill",
        "kills its supervisor",
        REFUSED,
        "if (boss > 1) { TRY(kill(boss, SIGKILL)); SYS(tgkill, boss, boss, SIGKILL); SYS(tkill, boss, SIGKILL);"
        " SYS(pidfd_open, boss, 0); SYS(rt_sigqueueinfo, boss, SIGTERM, 0); TRY(kill(-1, 0)); }",
    ),
    Hostile(
        "owner",
        "has its supervisor signalled by the kernel",
        REFUSED,
        "for (int f = 3; f < 8; f++) { TRY(fcntl(f, F_SETOWN, boss)); TRY(fcntl(f, F_SETFL, O_ASYNC)); }",
    ),
    Hostile(
        "ptrace",
        "takes over its supervisor",
        REFUSED,
        'char n[64]; snprintf(n, sizeof n, "/proc/%d/mem", boss); SYS(ptrace, 16, boss, 0, 0);'
        " SYS(process_vm_writev, boss, 0, 0, 0, 0, 0); SYS(process_vm_readv, boss, 0, 0, 0, 0, 0);"
        " TRY(open(n, O_RDWR)); SYS(kcmp, boss, boss, 0, 0, 0);",
    ),
    Hostile(
        "write",
        "writes, cuts, renames and removes files",
        REFUSED,
        'TRY(open(OUTSIDE "/new", O_CREAT | O_RDONLY, 0600)); TRY(open(OUTSIDE "/key", O_WRONLY));'
        ' TRY(open(OUTSIDE "/key", O_TRUNC)); SYS(openat, -100, OUTSIDE "/key", O_RDWR); TRY(unlink(OUTSIDE "/key"));'
        ' TRY(rename(OUTSIDE "/key", OUTSIDE "/k")); TRY(mkdir(OUTSIDE "/d", 0700)); TRY(chmod(OUTSIDE "/key", 0777));'
        ' TRY(symlink("/", OUTSIDE "/s")); TRY(link(OUTSIDE "/key", OUTSIDE "/l")); TRY(truncate(OUTSIDE "/key", 0));',
    ),
    Hostile(
        "own-file",
        "changes its own library and its shared memory's size",
        REFUSED,
        'char n[64]; for (int f = 3; f < 8; f++) { snprintf(n, sizeof n, "/proc/self/fd/%d", f); TRY(open(n, O_RDWR));'
        " TRY(ftruncate(f, 0)); TRY(open(n, O_TRUNC)); }",
    ),
    Hostile(
        "name",
        "hides: another name, another parent's death, not dumpable",
        REFUSED,
        'SYS(prctl, 15, "systemd", 0, 0, 0); SYS(prctl, 1, 0, 0, 0, 0); SYS(prctl, 4, 0, 0, 0, 0);'
        ' TRY(open("/proc/self/comm", O_WRONLY)); TRY(open("/proc/self/oom_score_adj", O_WRONLY));'
        " TRY(setsid()); TRY(setpgid(0, boss));",
    ),
    Hostile(
        "spaces",
        "moves to other namespaces, roots and users",
        REFUSED,
        'SYS(unshare, CLONE_NEWUSER); SYS(setns, 3, 0); SYS(mount, 0, 0, 0, 0, 0); SYS(chroot, "/"); SYS(setuid, 0);'
        ' SYS(setgroups, 0, 0); SYS(chdir, "/"); SYS(capset, 0, 0);',
    ),
    Hostile(
        "kernel",
        "asks for the kernel's wider faces",
        REFUSED,
        "SYS(bpf, 0, 0, 0); SYS(io_uring_setup, 1, 0); SYS(userfaultfd, 0); SYS(perf_event_open, 0, 0, 0, 0, 0);"
        " SYS(keyctl, 0, 0); SYS(add_key, 0, 0, 0, 0, 0); SYS(init_module, 0, 0, 0); SYS(kexec_load, 0, 0, 0, 0);"
        " SYS(reboot, 0, 0, 0, 0); SYS(seccomp, 9, 0, 0); SYS(syslog, 3, 0, 0);",
    ),
    Hostile(
        "clock",
        "sets the device's clock",
        REFUSED,
        "SYS(clock_settime, 0, 0); SYS(settimeofday, 0, 0); SYS(adjtimex, 0); SYS(clock_adjtime, 0, 0);",
    ),
    Hostile(
        "ipc",
        "leaves shared memory and queues behind",
        REFUSED,
        "SYS(shmget, 0, 4096, 01600); SYS(semget, 0, 1, 01600); SYS(msgget, 0, 01600);"
        ' SYS(mq_open, "hostile", O_CREAT | O_RDWR, 0600, 0); TRY(open("/dev/shm/hostile", O_CREAT | O_RDWR, 0600));',
    ),
    Hostile(
        "secrets",
        "reads passwords, the agent's keys and another model",
        REFUSED,
        'TRY(open("/etc/shadow", O_RDONLY)); TRY(open(OUTSIDE "/key", O_RDONLY));'
        ' TRY(open(OUTSIDE "/ledger", O_RDONLY));'
        ' TRY(open("/proc/self/root/etc/shadow", O_RDONLY)); TRY(open(OUTSIDE, O_RDONLY | O_DIRECTORY));',
        needs="landlock",
    ),
    Hostile(
        "environment",
        "reads its supervisor's environment and descriptors",
        REFUSED,
        'char n[64]; snprintf(n, sizeof n, "/proc/%d/environ", boss); TRY(open(n, O_RDONLY));'
        ' snprintf(n, sizeof n, "/proc/%d/fd", boss); TRY(open(n, O_RDONLY | O_DIRECTORY));',
        needs="landlock",
    ),
    Hostile(
        "dlopen",
        "loads a library from a folder of somebody else",
        REFUSED,
        'TOLD(dlopen(OUTSIDE "/ledger", RTLD_NOW) ? 0 : EACCES); TRY(open(OUTSIDE "/ledger", O_RDONLY));',
        needs="landlock",
    ),
)

TABLE: tuple[Hostile, ...] = (*_DYING, *_LATE, *_GREEDY, *_OUTSIDE, *LYING, *LOADING)
