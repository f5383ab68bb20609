"""The fleet's own certificate authority: who a device is on the wire.

Of a certificate request only the public key is taken; the authority decides subject, use and life. P-256 throughout.
A device's common name is `<tenant>/<device>`, which the broker's access rules repeat as topic levels.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from skerry_contracts import names
from skerry_contracts.errors import MismatchError
from skerry_fleet.trust import durable, keys
from skerry_fleet.trust.errors import CertificateError

AUTHORITY_DAYS = 3650
DEVICE_DAYS = 30
FLEET_DAYS = 365
BACKDATE_S = 300  # devices' clocks run a little behind
CRL_DAYS = AUTHORITY_DAYS  # the broker reads it from our own disk: a list that expires would only lock everyone out
VISITOR_DAYS = 10 / 1440
MAX_REQUEST_BYTES = 16 * 1024
MAX_COMMON_NAME = 64  # X.520 ub-common-name


class Authority:
    """A certificate authority in a folder: `authority.crt` beside the key in the store."""

    def __init__(self, folder: Path, store: keys.KeyStore) -> None:
        self._path = folder / "authority.crt"
        self._store = store
        self._key = store.p256(keys.AUTHORITY)
        self._certificate = x509.load_pem_x509_certificate(self._path.read_bytes())
        if self._certificate.public_key() != self._key.public_key():
            raise CertificateError(
                f"{self._path} does not belong to {store.path(keys.AUTHORITY)}", hint="restore both together"
            )

    @classmethod
    def create(cls, folder: Path, store: keys.KeyStore, now_s: float) -> Authority:
        """Return the authority in `folder`, made first if it is not there. A creation cut short is finished."""
        key = store.p256(keys.AUTHORITY, create=True)
        path = folder / "authority.crt"
        if not path.exists():
            durable.make_dirs(folder)
            durable.write_file(path, _self_signed(key, now_s).public_bytes(serialization.Encoding.PEM))
        return cls(folder, store)

    @property
    def certificate_pem(self) -> str:
        """The authority's own certificate: what devices and the broker check against."""
        return self._certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")

    def issue_device(self, csr_pem: str, tenant: str, device: str, now_s: float, days: float = DEVICE_DAYS) -> str:
        """Return a client certificate (PEM) for a device. Only the request's public key is used.

        Raises:
            CertificateError: the request is not whole, its key is not P-256, or the names do not fit a certificate.
        """
        try:
            names.name(tenant, "tenant")
            names.name(device, "device")
        except MismatchError as error:
            raise CertificateError(str(error)) from error
        return self._issue(request_key(csr_pem), f"{tenant}/{device}", now_s, days, ExtendedKeyUsageOID.CLIENT_AUTH)

    def issue_fleet(self, name: str, now_s: float) -> tuple[str, str]:
        """Return a fresh key and client certificate (PEM) for the fleet's own connections, such as `fleet`.

        A device's name has a slash, these have none, so that neither can be taken for the other.
        """
        return self._own(names.name(name), now_s, FLEET_DAYS)

    def issue_visitor(self, identity: str, now_s: float) -> tuple[str, str]:
        """Return a key and certificate in a device's name, good for minutes: the fleet ends its connection with it."""
        tenant, _, device = identity.partition("/")
        return self._own(f"{names.name(tenant, 'tenant')}/{names.name(device, 'device')}", now_s, VISITOR_DAYS)

    def _own(self, common_name: str, now_s: float, days: float) -> tuple[str, str]:
        key = ec.generate_private_key(ec.SECP256R1())
        usage = ExtendedKeyUsageOID.CLIENT_AUTH
        return keys.private_pem(key).decode("ascii"), self._issue(key.public_key(), common_name, now_s, days, usage)

    def issue_server(self, hosts: Iterable[str], now_s: float) -> tuple[str, str]:
        """Return a fresh key and server certificate (PEM) good for localhost, 127.0.0.1, ::1 and `hosts`."""
        key = ec.generate_private_key(ec.SECP256R1())
        return keys.private_pem(key).decode("ascii"), self._server(key.public_key(), hosts, now_s)

    def issue_broker(self, csr_pem: str, hosts: Iterable[str], probe: str, now_s: float) -> tuple[str, str]:
        """Return two certificates (PEM) for the key of a broker elsewhere: as a server, and as the client `probe`.

        Raises:
            CertificateError: see `request_key`.
        """
        key = request_key(csr_pem)
        usage = ExtendedKeyUsageOID.CLIENT_AUTH
        return self._server(key, hosts, now_s), self._issue(key, names.name(probe), now_s, FLEET_DAYS, usage)

    def _server(self, key: ec.EllipticCurvePublicKey, hosts: Iterable[str], now_s: float) -> str:
        unique = dict.fromkeys(["localhost", "127.0.0.1", "::1", *hosts])
        alternatives = x509.SubjectAlternativeName([_host(host) for host in unique])
        return self._issue(key, "broker", now_s, FLEET_DAYS, ExtendedKeyUsageOID.SERVER_AUTH, alternatives)

    def revocation_list(self, serials: Iterable[int], now_s: float) -> str:
        """Return a list of revoked certificates (CRL, PEM) that names these serial numbers."""
        moment = _moment(now_s)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._certificate.subject)
            .last_update(moment - dt.timedelta(seconds=BACKDATE_S))
            .next_update(moment + dt.timedelta(days=CRL_DAYS))
            .add_extension(x509.CRLNumber(int(now_s * 1000)), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False)
        )
        for serial in sorted(set(serials)):
            revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(moment).build()
            builder = builder.add_revoked_certificate(revoked)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode("ascii")

    def verify_device(self, certificate_pem: str, now_s: float) -> str:
        """Return `<tenant>/<device>` of a certificate that this authority signed and that is valid now.

        Raises:
            CertificateError: not ours, not valid now, or not a client's.
        """
        certificate = _load(certificate_pem)
        try:
            certificate.verify_directly_issued_by(self._certificate)
        except (InvalidSignature, ValueError, TypeError) as error:  # alike they mean: not ours
            raise CertificateError("not a certificate of this fleet") from error
        if not certificate.not_valid_before_utc <= _moment(now_s) <= certificate.not_valid_after_utc:
            raise CertificateError("the certificate is expired or not yet valid", hint="enrol the device again")
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        if ExtendedKeyUsageOID.CLIENT_AUTH not in usage:
            raise CertificateError("not a client's certificate")
        return identity_of(certificate_pem)

    def _issue(
        self,
        public_key: ec.EllipticCurvePublicKey,
        common_name: str,
        now_s: float,
        days: float,
        usage: x509.ObjectIdentifier,
        alternatives: x509.SubjectAlternativeName | None = None,
    ) -> str:
        builder = _builder(common_name, self._certificate.subject, public_key, now_s, days)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = (
            builder.add_extension(x509.BasicConstraints(False, None), True)
            .add_extension(_key_usage(signs_certificates=False), True)
            .add_extension(x509.ExtendedKeyUsage([usage]), False)
            .add_extension(issuer, False)
        )
        if alternatives is not None:
            builder = builder.add_extension(alternatives, False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode("ascii")


def request_key(csr_pem: str) -> ec.EllipticCurvePublicKey:
    """Return the public key of a certificate request.

    Raises:
        CertificateError: too long, no request, a signature that does not hold, or a key that is not P-256.
    """
    if len(csr_pem) > MAX_REQUEST_BYTES:
        raise CertificateError(f"a certificate request of {len(csr_pem)} bytes, at most {MAX_REQUEST_BYTES} are read")
    hint = "send a PKCS#10 request (PEM) for a P-256 key"
    try:
        request = x509.load_pem_x509_csr(csr_pem.encode())
        key = request.public_key()
        signed = request.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise CertificateError(f"not a certificate request: {type(error).__name__}", hint=hint) from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise CertificateError(f"a request for a {type(key).__name__} is refused", hint=hint)
    if not signed:
        raise CertificateError("the request is not signed by its own key", hint=hint)
    return key


def identity_of(certificate_pem: str) -> str:
    """Return a certificate's common name.

    Raises:
        CertificateError: no certificate, or not exactly one common name.
    """
    found = _load(certificate_pem).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if len(found) != 1 or not isinstance(found[0].value, str):
        raise CertificateError("a certificate without exactly one common name")
    return found[0].value


def serial_of(certificate_pem: str) -> int:
    """Return a certificate's serial number, as a revocation list names it."""
    return _load(certificate_pem).serial_number


def life_s(certificate_pem: str) -> tuple[float, float]:
    """Return when a certificate begins and ends, in seconds since 1970."""
    certificate = _load(certificate_pem)
    return certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()


def expires_s(certificate_pem: str) -> float:
    """Return when a certificate ends, in seconds since 1970."""
    return _load(certificate_pem).not_valid_after_utc.timestamp()


def _load(certificate_pem: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(certificate_pem.encode())
    except (ValueError, TypeError) as error:
        raise CertificateError(f"not a certificate: {error}") from error


def _self_signed(key: ec.EllipticCurvePrivateKey, now_s: float) -> x509.Certificate:
    # The serial in the name keeps two fleets' authorities apart where one machine knows both.
    name = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, f"skerry fleet {x509.random_serial_number() % 16**8:08x}")]
    )
    builder = _builder(None, name, key.public_key(), now_s, AUTHORITY_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(True, 0), True)
    return builder.add_extension(_key_usage(signs_certificates=True), True).sign(key, hashes.SHA256())


def _builder(
    common_name: str | None, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now_s: float, days: float
) -> x509.CertificateBuilder:
    if common_name is not None and len(common_name) > MAX_COMMON_NAME:
        raise CertificateError(
            f"{common_name!r:.140} is longer than {MAX_COMMON_NAME} characters",
            hint="choose a shorter device name: tenant and device together fit 63 characters",
        )
    subject = issuer if common_name is None else x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    moment = _moment(now_s)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment - dt.timedelta(seconds=BACKDATE_S))
        .not_valid_after(moment + dt.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _moment(now_s: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(int(now_s), dt.UTC)


def belongs(certificate_pem: str, key_pem: bytes) -> bool:
    """Say whether a private key (PEM) is the one of a certificate."""
    try:
        key = serialization.load_pem_private_key(key_pem, password=None)
    except (ValueError, TypeError):
        return False
    return isinstance(key, ec.EllipticCurvePrivateKey) and key.public_key() == _load(certificate_pem).public_key()
