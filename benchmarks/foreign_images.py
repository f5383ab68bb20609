"""Images of PostgreSQL and nginx for trying `fleet/deploy` where no registry is in reach: Debian's packages, with as
much of the official images' manners as compose.yaml asks for. For trials alone.
"""

from __future__ import annotations

from pathlib import Path

from skerry_simulators.debian import packages
from skerry_simulators.debian.packages import ARCHITECTURES
from skerry_simulators.debian.tree import MERGED, Tree
from skerry_simulators.images import base
from skerry_simulators.images.archive import Image, Layer
from skerry_simulators.images.binfmt import native_platform
from skerry_simulators.images.recipes import CREATED_S

POSTGRES = """\
#!/bin/sh
set -eu
D=/var/lib/postgresql/data
B=$(echo /usr/lib/postgresql/*/bin)
export PATH="$B:$PATH"
run() { setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; }
mkdir -p /run/postgresql && chown postgres:postgres /run/postgresql "$D" && chmod 700 "$D"
if [ ! -s "$D/PG_VERSION" ]; then
    cp "$POSTGRES_PASSWORD_FILE" /tmp/pw && chown postgres /tmp/pw
    run initdb -D "$D" --username="$POSTGRES_USER" --pwfile=/tmp/pw --locale=C.UTF-8 ${POSTGRES_INITDB_ARGS:-}
    rm /tmp/pw
    echo "host all all all scram-sha-256" >>"$D/pg_hba.conf"
    run pg_ctl -D "$D" -o "-c listen_addresses=" -w start
    run createdb -U "$POSTGRES_USER" "$POSTGRES_DB" || true
    run pg_ctl -D "$D" -m fast -w stop
fi
exec setpriv --reuid=postgres --regid=postgres --clear-groups postgres -D "$D" -c "listen_addresses=*"
"""
PEOPLE = """\
root:x:0:0:root:/root:/bin/sh
www-data:x:33:33::/var/www:/bin/false
postgres:x:70:70::/var/lib/postgresql:/bin/sh
"""


def postgres(tag: str, cache: Path) -> Image:
    """Return PostgreSQL as `postgres:17` behaves: POSTGRES_USER, _DB, _PASSWORD_FILE and _INITDB_ARGS."""
    tree = _tree(["postgresql-17", "dash", "coreutils", "util-linux"], cache)
    tree.file("entry.sh", POSTGRES.encode(), 0o755)
    tree.directory("var/lib/postgresql/data", 0o700, owner=70)
    version = next(path for path, _ in tree if path.startswith("usr/lib/postgresql/")).split("/")[3]
    path = f"PATH=/usr/lib/postgresql/{version}/bin:/usr/bin"
    run = {"Entrypoint": ["/entry.sh"], "Env": [path, "LC_ALL=C.UTF-8"], "StopSignal": "SIGINT"}
    return _image(tag, tree, {**run, "Volumes": {"/var/lib/postgresql/data": {}}})


def nginx(tag: str, cache: Path) -> Image:
    """Return nginx as the official image starts it."""
    tree = _tree(["nginx-light"], cache)
    return _image(tag, tree, {"Entrypoint": ["/usr/sbin/nginx", "-g", "daemon off;"], "StopSignal": "SIGQUIT"})


def _tree(names: list[str], cache: Path) -> Tree:
    tree = Tree()
    for each in packages.fetch(base.SUITE, ARCHITECTURES[native_platform()], names, cache):
        tree.merge(each.unpack())
    for name in MERGED:
        if f"usr/{name}" in tree:
            tree.link(name, f"usr/{name}")
    tree.file("etc/passwd", PEOPLE.encode())
    tree.file("etc/group", b"root:x:0:\nwww-data:x:33:\npostgres:x:70:\n")
    tree.file("etc/nsswitch.conf", b"passwd: files\ngroup: files\nhosts: files dns\n")
    tree.link("usr/bin/sh", "dash")
    tree.link("var/run", "../run")
    for path, mode in (("tmp", 0o1777), ("run", 0o755), ("var/log/nginx", 0o755), ("var/lib/nginx", 0o755)):
        tree.directory(path, mode)
    return tree


def _image(tag: str, tree: Tree, run: dict[str, object]) -> Image:
    return Image(native_platform(), tag, (Layer(tree.tar(CREATED_S), "Debian"),), run, CREATED_S)
