"""`skerry agent unit`: the systemd service of this agent, as text, with a watchdog and as few rights as it works with.

Sources: systemd.service(5), systemd.exec(5), sd_notify(3). What is left out on purpose: MemoryDenyWriteExecute (engines
may generate code), ProcSubset (the agent reads /proc/cpuinfo and /proc/meminfo), PrivateNetwork (it has a fleet).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from skerry_agent.config import DEFAULT_ROOT
from skerry_agent.errors import ConfigError

WATCHDOG_S = 60
USER = re.compile(r"[a-z_][a-z0-9_-]{0,30}")
# What workers lock themselves down with, besides what any service may call.
_CALLS = "@system-service seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self"

_UNIT = """\
[Unit]
Description=Skerry device agent
Documentation=man:systemd.service(5)
After=local-fs.target network.target
# A device that nobody visits never gives up.
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
User={user}
Restart=always
RestartSec=2
WatchdogSec={watchdog_s}
TimeoutStartSec=300
TimeoutStopSec=30
KillMode=mixed
# The kernel may end one model that takes too much; the others and the agent go on.
OOMPolicy=continue
# An engine that may start threads cannot take all that the device has.
TasksMax=512
{folder}
UMask=0077
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome={home}
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter={calls}
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""


def render(root: Path, *, user: str, command: Sequence[str] = ()) -> str:
    """Return the unit file of the agent in a root folder, run by a user that need not be root.

    Raises:
        ConfigError: a name that no user can have, or a path that no unit file can hold.
    """
    if not USER.fullmatch(user):
        raise ConfigError(f"{user!r:.60} is no user's name", hint="make one: useradd --system skerry")
    words = [*(command or (sys.executable, "-m", "skerry")), "agent", "run", "--root", str(root)]
    state = DEFAULT_ROOT.parent
    if root.parent == state and re.fullmatch(r"[A-Za-z0-9_.-]+", root.name):
        folder = f"StateDirectory={root.name}\nStateDirectoryMode=0750"
    else:
        folder = f"ReadWritePaths={_quoted(str(root))}"
    homes = ("/home/", "/root/", "/run/user/")
    home = "yes"
    if str(root).startswith(homes):
        home = "no"
    elif any(word.startswith(homes) for word in words) or sys.prefix.startswith(homes):
        home = "read-only"
    return _UNIT.format(
        command=" ".join(_quoted(word) for word in words),
        user=user,
        watchdog_s=WATCHDOG_S,
        folder=folder,
        home=home,
        calls=_CALLS,
    )


def _quoted(word: str) -> str:
    """Return a word as a unit file wants it: specifiers and variables doubled, quoted where it holds more than a path.

    >>> _quoted("/opt/skerry"), _quoted("/srv/a b/50%")
    ('/opt/skerry', '"/srv/a b/50%%"')
    """
    if not word.isprintable():
        raise ConfigError(f"{word!r:.120} cannot stand in a unit file", hint="choose a path of printable characters")
    word = word.replace("%", "%%").replace("$", "$$")
    if re.fullmatch(r"[A-Za-z0-9_./%$=+:@-]+", word):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'
