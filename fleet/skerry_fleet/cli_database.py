"""The verbs of `skerry fleet` that work on a fleet's folder and database themselves, not through its API."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from skerry_fleet import backup, restore, retention
from skerry_fleet import config as settings
from skerry_fleet.cli_words import show, table
from skerry_fleet.config import FleetConfig
from skerry_fleet.database import Database, first_line
from skerry_fleet.errors import InputError, UnavailableError
from skerry_fleet.fleet import lock_folder
from skerry_fleet.migrations import upgrade
from skerry_fleet.sql.dialect import Dialect, open_dialect


def run(arguments: argparse.Namespace, root: Path) -> int:
    """Carry out one command on the fleet in `root`.

    Raises:
        FleetError: refused.
    """
    config = settings.load(root, {"database_url": getattr(arguments, "database_url", None)})
    try:
        return VERBS[arguments.noun](arguments, config)
    except DBAPIError as error:
        raise UnavailableError(
            f"the database: {first_line(error)}", hint="check its address, and the rights to it"
        ) from error


def _migrate(arguments: argparse.Namespace, config: FleetConfig) -> int:
    dialect = _existing(config)
    try:
        with dialect.reader.connect() as connection:
            at = upgrade.revision(connection)
        if arguments.sql:
            print(upgrade.script(dialect.reader.dialect.name, at), end="")
            return 0
        if arguments.check:
            upgrade.behind(at or upgrade.FIRST, upgrade.HEAD)
            return _tell(arguments, at, at)
        lock = lock_folder(config.root)
        try:
            with dialect.writer.begin() as connection:
                dialect.exclusive(connection)
                upgrade.bring(connection, arguments.to or upgrade.HEAD)
            with dialect.reader.connect() as connection:
                return _tell(arguments, at, upgrade.revision(connection))
        finally:
            os.close(lock)
    finally:
        dialect.close()


def _tell(arguments: argparse.Namespace, before: str | None, now: str | None) -> int:
    """Print where a database is; return 1 where it is not where this version wants it."""
    answer = {"before": before, "now": now, "wanted": upgrade.HEAD}
    if arguments.json:
        print(json.dumps(answer))
    elif now == upgrade.HEAD:
        print(
            f"the database is at step {now}, as it should be" if before == now else f"step {before or 'none'} to {now}"
        )
    else:
        print(f"the database is at step {now or 'none'}, this version wants {upgrade.HEAD}: run skerry fleet migrate")
    return 0 if now == upgrade.HEAD else 1


def _backup(arguments: argparse.Namespace, config: FleetConfig) -> int:
    target, passphrase = Path(arguments.file), backup.passphrase_of(arguments.passphrase_file)
    dialect = _existing(config)
    try:
        found = backup.write(config, dialect, target, time.time(), passphrase, keys=not arguments.without_keys)
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror}", hint="choose another place") from error
    finally:
        dialect.close()
    if found.keys and not found.sealed:
        warning = "this file holds the fleet's private keys unencrypted: who has it can order every device"
        print(f"skerry: warning: {warning} (--passphrase-file, --without-keys)", file=sys.stderr)
    for each in found.damaged:
        print(f"skerry: warning: blob {each[:12]} is damaged on the disk and was left out", file=sys.stderr)
    if arguments.json:
        print(json.dumps(dataclasses.asdict(found)))
    else:
        print(f"{target}: {found.rows} rows, {found.files} files, {found.size_bytes / 1e6:.1f} MB")
    return 1 if found.damaged else 0


def _restore(arguments: argparse.Namespace, config: FleetConfig) -> int:
    source, passphrase = Path(arguments.file), backup.passphrase_of(arguments.passphrase_file)
    try:
        found = restore.restore(config, source, time.time(), passphrase)
    except OSError as error:
        raise InputError(f"{error.filename or source}: {error.strerror}") from error
    if not found.keys:
        print("skerry: warning: the backup holds no private keys: put trust/keys back before serving", file=sys.stderr)
    if arguments.json:
        print(json.dumps(dataclasses.asdict(found)))
    else:
        made = datetime.fromtimestamp(found.made_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
        print(f"{config.root}: {found.rows} rows and {found.files} files as of {made}; the audit chain holds")
    return 0


def _retention(arguments: argparse.Namespace, config: FleetConfig) -> int:
    _existing(config).close()
    lock = -1 if arguments.dry_run else lock_folder(config.root)  # a fleet that serves deletes by itself
    database = Database(config.url)
    try:
        now = time.time()
        deleted = {} if arguments.dry_run else retention.run(database, config, now, batches=sys.maxsize)
        with database.read() as session:
            found = [
                {**dataclasses.asdict(each), "deleted": deleted.get(each.table, 0)}
                for each in retention.look(session, config, now)
            ]
    finally:
        database.close()
        if lock >= 0:
            os.close(lock)
    show(found, arguments.json, lambda: table(found, ("table", "rows", "old", "deleted", "days", "setting")))
    return 0


def _existing(config: FleetConfig) -> Dialect:
    """Return the database of a fleet that is there."""
    if not config.database_url and not (config.root / "fleet.db").is_file():
        raise InputError(f"no fleet in {config.root}", hint="give --root of the fleet, or --database-url")
    return open_dialect(config.url)


VERBS: dict[str, Callable[[argparse.Namespace, FleetConfig], int]] = {
    "migrate": _migrate,
    "backup": _backup,
    "restore": _restore,
    "retention": _retention,
}
