"""A fleet within the process, for one device on a real disk: the real trust office, update repository and deltas, and a
connection that breaks when it is told to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs

from skerry_agent.errors import NetworkError
from skerry_agent.trust.transfer import MAX_ANSWER_BYTES, Fleet
from skerry_contracts import codec, delta
from skerry_contracts.assignment import AssignedModel, Assignment, Envelope, target_path
from skerry_contracts.carried_update import head
from skerry_contracts.delta import Delta, DeltaOffer
from skerry_contracts.enrolment import (
    RENEWAL_TYPE,
    ClaimToken,
    Enrolment,
    EnrolmentRequest,
    Renewal,
    RenewalRequest,
)
from skerry_fleet.trust import signing
from skerry_fleet.trust.office import open_office
from skerry_simulators.catalogue import MODEL, TENANT, MadeBundle

PIECE_BYTES = 4096
URL = "http://127.0.0.1:1"  # nobody listens there, and nobody is asked
LIFE_DAYS = 30.0
CERTIFICATES = "certificates.pem"
_END = "-----END CERTIFICATE-----\n"


def _plain(path: Path, data: bytes, _: int) -> None:
    """Write a file of the fleet's: its power does not go."""
    path.write_bytes(data)


class PaperFleet(Fleet):
    """What the device sees of its fleet. Its folder lasts; a later process takes it up."""

    def __init__(self, folder: Path, wall_s: Callable[[], float]) -> None:
        self.folder = folder
        self.wall_s = wall_s
        self.office = open_office(folder, TENANT, wall_s(), _plain)
        self.blobs: dict[str, bytes] = {}
        self.listed: set[str] = set()
        self.cut_after: int | None = None  # bytes, and the connection breaks: once
        self.issued: Callable[[str], None] = lambda pem: None  # hears of each certificate
        self.lasting = True  # whether what it issues is kept in its folder
        path = folder / CERTIFICATES
        known = path.read_text().split(_END)[:-1] if path.exists() else []
        self.certificates = [each + _END for each in known]
        """Every certificate that was issued to the device (PEM), the newest last."""
        self.between: Callable[[], None] = lambda: None  # between two pieces of a download
        self._deltas: dict[str, list[DeltaOffer]] = {}

    @property
    def claim(self) -> str:
        """A claim token for the device."""
        return str(ClaimToken("claim0001", "s" * 40, self.office.trust_sha256))

    def publish(self, bundle: MadeBundle, older: MadeBundle | None = None) -> None:
        """List a bundle; `older`: offer deltas from that one's library."""
        self.know(bundle, older)
        if bundle.id in self.listed:
            return
        self.listed.add(bundle.id)
        self.office.repository.register_model(MODEL, self.wall_s())
        self.office.repository.publish(target_path(MODEL, bundle.id), bundle.manifest_bytes, {}, self.wall_s())

    def know(self, bundle: MadeBundle, older: MadeBundle | None = None) -> None:
        """Have a bundle's blobs, and deltas to them, without listing it."""
        self.blobs |= bundle.blobs
        if older is None:
            return
        base, target = (each.manifest.variants[0].blobs["library"].sha256 for each in (older, bundle))
        old, new = older.blobs[base], bundle.blobs[target]
        if len(old) == len(new):
            body = delta.difference(memoryview(old), memoryview(new), 1)
            data = delta.join(Delta(base, target, len(new), delta.TENSOR, 1), body)
            self.blobs[codec.digest(data)] = data
            self._deltas.setdefault(target, []).append(DeltaOffer(base, codec.digest(data), len(data), delta.TENSOR))

    def assign(self, device: str, sequence: int, bundle: MadeBundle | None, *, downgrade: bool = False) -> bytes:
        """Return a signed assignment of a bundle, or of none."""
        models: tuple[AssignedModel, ...] = ()
        if bundle is not None:
            said = bundle.manifest
            path, size = target_path(MODEL, bundle.id), len(bundle.manifest_bytes)
            rollout = f"r-{sequence}"
            models = (AssignedModel(MODEL, said.version, said.release, bundle.id, path, size, rollout, downgrade),)
        now_s = int(self.wall_s())
        assignment = Assignment(TENANT, device, sequence, now_s, now_s + int(LIFE_DAYS * 86400), models)
        return self.office.director.sign_assignment(assignment)

    def carry(self, envelope: bytes, bundle: MadeBundle, file: Path) -> None:
        """Write an update file: the assignment, and what the device would fetch."""
        repository = self.office.repository
        metadata = {f"/tuf/metadata/{each.name}": each.read_bytes() for each in repository.metadata_dir.iterdir()}
        manifest = {f"/tuf/targets/{MODEL}/{bundle.id}.{bundle.id}.json": bundle.manifest_bytes}
        files = metadata | manifest | {f"/blobs/{name}": data for name, data in bundle.blobs.items()}
        first = head(envelope, [(path, len(data)) for path, data in files.items()])
        file.write_bytes(first + b"".join(files.values()))

    # What the device asks (transfer.Fleet).

    def close(self) -> None:
        """End the connection."""

    def get(self, path: str, *, max_bytes: int = MAX_ANSWER_BYTES) -> bytes:
        """Return a small document; see `Fleet.get`."""
        return self._content(path)

    def post(self, path: str, body: bytes) -> bytes:
        """Answer an enrolment or a renewal."""
        if path.endswith("/enrol"):
            request = codec.decode(EnrolmentRequest, body)
            device = request.device or "device"
            pem = self._issue(request.csr_pem, device)
            return codec.encode(Enrolment(TENANT, device, pem, "127.0.0.1", 1, "token"))
        keys = [signing.certificate_key(each) for each in self.certificates]
        wanted = codec.decode(RenewalRequest, signing.verify(codec.decode(Envelope, body), RENEWAL_TYPE, keys))
        return codec.encode(Renewal(self._issue(wanted.csr_pem, wanted.device)))

    def stream(self, path: str, *, max_bytes: int, offset: int = 0) -> tuple[int, Iterator[bytes]]:
        """Return where the answer begins, and its pieces; see `Fleet.stream`."""
        return offset, self._cut(self._content(path)[offset:])

    def _cut(self, data: bytes) -> Iterator[bytes]:
        for at in range(0, len(data), PIECE_BYTES):
            piece = data[at : at + PIECE_BYTES]
            if self.cut_after is not None:
                if self.cut_after < len(piece):
                    cut, self.cut_after = self.cut_after, None
                    yield piece[:cut]
                    raise NetworkError("the connection broke")
                self.cut_after -= len(piece)
            yield piece
            self.between()

    def _content(self, path: str) -> bytes:
        if path == "/device/v1/trust":
            return self.office.trust_document
        kind, _, name = path.lstrip("/").partition("/")
        if kind == "tuf" and (self.folder / path.lstrip("/")).is_file():
            return (self.folder / path.lstrip("/")).read_bytes()
        if kind == "blobs" and name in self.blobs:
            return self.blobs[name]
        target, _, query = name.partition("?")
        asked = parse_qs(query)
        for offer in self._deltas.get(target, ()) if kind == "deltas" else ():
            if offer.base in asked.get("base", ()) and offer.method in asked.get("method", ()):
                return codec.encode(offer)
        raise NetworkError(f"{path}: HTTP 404")

    def _issue(self, csr_pem: str, device: str) -> str:
        pem = self.office.authority.issue_device(csr_pem, TENANT, device, self.wall_s(), LIFE_DAYS)
        self.certificates.append(pem)
        self.issued(pem)
        if self.lasting:
            (self.folder / CERTIFICATES).write_text("".join(self.certificates))
        return pem
