"""The factory model: a bundle that the device's owner puts there by hand, served from the first boot and never removed.

No update repository is asked: who can write to the agent's folder needs no permission from the fleet.
"""

from __future__ import annotations

import os
from pathlib import Path

from skerry_agent.disk import RealDisk
from skerry_agent.errors import StorageError, TrustError
from skerry_agent.store import Store
from skerry_agent.this_device import lock, this_hardware
from skerry_contracts.container import open_container
from skerry_contracts.device import Reason
from skerry_contracts.errors import ContractError
from skerry_targets import fit


def install_factory(root: Path, file: Path) -> tuple[str, str]:
    """Install a bundle file as its model's factory bundle; returns model and bundle id. The agent must not run.

    Raises:
        ConfigError: an agent runs in this root.
        StorageError: the file cannot be read, or there is no space.
        TrustError: CORRUPT (the file is not a whole bundle) or UNFIT (not for this hardware).
    """
    disk = RealDisk(root)
    held = lock(root)
    try:
        with file.open("rb") as opened:
            container = open_container(opened)
            container.verify()
            manifest = container.manifest
            hardware = this_hardware()
            if not fit.fitting(manifest.variants, hardware):
                lacks = fit.why_not(manifest.variants, hardware)
                words = f"no variant of this bundle, made for {manifest.target}, fits this device: {lacks[:440]}"
                raise TrustError(words, reason=Reason.UNFIT, hint=fit.instead(hardware))
            store = Store(disk)
            store.prepare()
            for digest in manifest.blobs():
                store.put_blob(container.read_blob(digest))
            store.put_manifest(container.manifest_bytes)
            store.mark_factory(manifest.model, container.bundle_id)
            return manifest.model, container.bundle_id
    except ContractError as error:
        raise TrustError(f"{file}: {error}", reason=Reason.CORRUPT, hint="copy the bundle again") from error
    except OSError as error:
        raise StorageError(f"{file}: {error.strerror}", hint="give the path of a .skerry file") from error
    finally:
        os.close(held)
