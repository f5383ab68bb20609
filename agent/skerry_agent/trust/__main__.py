"""The child process for everything that needs heavy libraries: `python -m skerry_agent.trust ROOT PID`.

One JSON request a line on standard input, answers on standard output: any number of `{"progress": [received,
total]}`, then `{"ok": {...}}` or `{"error": {"reason": ..., "detail": ...}}`. Libraries are imported with the first
request that needs them; the process ends with its input, or with its parent. Requests (`verb`): verify, manifest,
blobs, sign, renew.
"""

from __future__ import annotations

import base64
import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from skerry_agent import identity
from skerry_agent.disk import RealDisk
from skerry_agent.errors import AgentError, NetworkError, StorageError, TrustError
from skerry_contracts import codec
from skerry_contracts.assignment import RECEIPT_TYPE, Receipt
from skerry_contracts.bundle import Blob
from skerry_contracts.device import Reason
from skerry_contracts.errors import ContractError

Request = dict[str, Any]
Reply = dict[str, Any]
Reach = Callable[[RealDisk], Any]  # the fleet that a device belongs to (transfer.Fleet); simulators have their own
_PR_SET_PDEATHSIG = 1


def verify(disk: RealDisk, request: Request, _: Reach) -> Reply:
    """Check an assignment's signature: `envelope` (base64) -> `payload` (base64)."""
    from skerry_agent.trust.signing import verify_assignment

    keys = identity.load_trust(disk).director_keys_pem
    payload = verify_assignment(base64.b64decode(request["envelope"]), keys)
    return {"payload": base64.b64encode(payload).decode()}


def sign(disk: RealDisk, request: Request, _: Reach) -> Reply:
    """Sign a receipt: `receipt` (plain) -> `envelope` (plain)."""
    from skerry_agent.trust import signing
    from skerry_agent.trust.enrol import private_key

    receipt = codec.from_plain(Receipt, request["receipt"])
    key = private_key(disk.read(identity.CREDENTIALS) or b"", identity.CREDENTIALS)
    return {"envelope": codec.to_plain(signing.sign(RECEIPT_TYPE, codec.encode(receipt), key))}


def renew(disk: RealDisk, request: Request, reach: Reach) -> Reply:
    """Ask for the next certificate if it is time: `now_s` -> `renewed`, `due_s` and `expires_s` of the present one."""
    from skerry_agent.trust.renew import renew

    found = renew(disk, identity.load(disk), reach(disk), request["now_s"])
    return {"renewed": found.renewed, "due_s": found.due_s, "expires_s": found.expires_s}


def manifest(disk: RealDisk, request: Request, reach: Reach) -> Reply:
    """Ask the update repository for the manifest that an assignment names (see effects.FetchManifest)."""
    from skerry_agent.store import Store
    from skerry_agent.trust.listing import Listing
    from skerry_agent.trust.repository import Memory

    trust, memory = identity.load_trust(disk), Memory(request["floors"], request["clock_floor_s"])

    def ask(fleet: Any) -> tuple[bytes, dict[str, int]]:
        listing = Listing(fleet, disk.root / "tuf", trust.tuf_root, memory, time.time(), Store(disk))
        return listing.manifest(request["target_path"], request["bundle"], request["size_bytes"])

    model, bundle = request["target_path"].partition("/")[0], request["bundle"]
    with _near(disk, [f"/tuf/targets/{model}/{bundle}.{bundle}.json"]) as near:
        try:
            data, floors = ask(near or reach(disk))
        except TrustError:
            if near is None:
                raise
            try:  # the file grew old, perhaps; the network, where there is one, may know better
                data, floors = ask(reach(disk))
            except NetworkError:
                data, floors = ask(near)  # the same refusal again, in its own words
    return {"manifest": base64.b64encode(data).decode(), "floors": floors}


def blobs(disk: RealDisk, request: Request, reach: Reach) -> Reply:
    """Fetch a bundle into the store: `manifest` (base64), `blobs` (plain) -> `transferred_bytes`."""
    from skerry_agent.store import Store
    from skerry_agent.trust.fetch import fetch_bundle

    wanted = [codec.from_plain(Blob, each) for each in request["blobs"]]
    data = base64.b64decode(request["manifest"])
    with _near(disk, [f"/blobs/{blob.sha256}" for blob in wanted]) as near:
        fleet = near or reach(disk)
        transferred = fetch_bundle(Store(disk), fleet, data, wanted, lambda *sizes: _say({"progress": sizes}))
    return {"transferred_bytes": transferred}


VERBS: dict[str, Callable[[RealDisk, Request, Reach], Reply]] = {
    "verify": verify,
    "sign": sign,
    "renew": renew,
    "manifest": manifest,
    "blobs": blobs,
}


def by_network(disk: RealDisk) -> Any:
    """Return the fleet where enrolment found it."""
    from skerry_agent.trust.transfer import Fleet

    found = identity.load(disk)
    return Fleet(found.fleet, token=found.enrolment.download_token, ca_pem=identity.load_trust(disk).ca_pem)


def answer(disk: RealDisk, line: bytes, reach: Reach = by_network) -> Reply:
    """Return the answer to one request; an error is an answer too."""
    try:
        request = json.loads(line)
        return {"ok": VERBS[request["verb"]](disk, request, reach)}
    except (TrustError, StorageError) as error:
        return _error(error.reason, error)
    except NetworkError as error:
        return _error(Reason.NETWORK, error)
    except (AgentError, ContractError, OSError, KeyError, ValueError, TypeError) as error:
        return _error(Reason.STORAGE, error)


def main(root: Path, starter: int) -> int:
    """Answer requests until the input ends, or `starter`, the process that started this one, does."""
    ctypes.CDLL(None).prctl(
        _PR_SET_PDEATHSIG, signal.SIGKILL
    )  # two downloads into one file must never run side by side
    if os.getppid() != starter:  # it has ended before we asked. In a container it may well be process 1
        return 1
    disk = RealDisk(root)
    for line in sys.stdin.buffer:
        _say(answer(disk, line))
    return 0


@contextmanager
def _near(disk: RealDisk, paths: list[str]) -> Iterator[Any]:
    """Give the update that came by file, if it holds all of these; None otherwise."""
    from skerry_agent.trust.carried import carried

    found = carried(disk.root)
    try:
        held = found is not None and all(found.update.size_bytes(path) is not None for path in paths)
        yield found if held else None
    finally:
        if found is not None:
            found.close()


def _error(reason: Reason, error: Exception) -> Reply:
    return {"error": {"reason": reason.value, "detail": f"{error}" or type(error).__name__}}


def _say(reply: Reply) -> None:
    sys.stdout.write(json.dumps(reply, separators=(",", ":")) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
