#!/bin/sh
# Install the programs that the real-part tests use, where that is possible without asking anyone: root on Debian.
set -eu
wanted="mosquitto mosquitto-clients chromium qemu-user-static qemu-system-arm strace faketime docker.io postgresql"
for program in mosquitto mosquitto_pub chromium qemu-aarch64-static qemu-system-arm strace faketime dockerd; do
    command -v "$program" >/dev/null 2>&1 || [ -x "/usr/sbin/$program" ] || missing=1
done
# Debian keeps PostgreSQL's server programs off PATH.
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing=1
[ "${missing:-0}" = 1 ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing for the tests: $wanted"
    apt-get update -qq
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $wanted >/dev/null
fi
