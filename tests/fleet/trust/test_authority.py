from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st
from tests.fleet.trust.conftest import DAY_S, NOW_S

from skerry_fleet.trust import authority, credentials
from skerry_fleet.trust.authority import Authority, identity_of
from skerry_fleet.trust.errors import CertificateError, KeyUnfitError
from skerry_fleet.trust.keys import KeyStore
from skerry_fleet.trust.office import TrustOffice


def request(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey, name: str = "evil") -> str:
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    builder = builder.add_extension(x509.BasicConstraints(True, None), True)  # it asks to be an authority
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("fleet")]), False)
    return builder.sign(key, algorithm).public_bytes(serialization.Encoding.PEM).decode()


def p256() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def test_only_the_public_key_is_taken(office: TrustOffice) -> None:
    key = p256()
    pem = office.authority.issue_device(request(key, "fleet"), "default", "camera-1", NOW_S)
    certificate = x509.load_pem_x509_certificate(pem.encode())
    assert identity_of(pem) == "default/camera-1"
    assert certificate.public_key() == key.public_key()
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert not constraints.ca
    usage = list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    assert usage == [ExtendedKeyUsageOID.CLIENT_AUTH]
    with pytest.raises(x509.ExtensionNotFound):
        certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert authority.expires_s(pem) == NOW_S + 30 * DAY_S
    assert office.authority.verify_device(pem, NOW_S) == "default/camera-1"


def test_a_certificate_ends_and_begins(office: TrustOffice) -> None:
    pem = office.authority.issue_device(request(p256()), "default", "camera-1", NOW_S)
    for moment in (NOW_S + 31 * DAY_S, NOW_S - DAY_S):
        with pytest.raises(CertificateError, match="expired or not yet"):
            office.authority.verify_device(pem, moment)


def test_another_fleet_is_not_believed(office: TrustOffice, tmp_path: Path) -> None:
    rogue = Authority.create(tmp_path / "rogue", KeyStore(tmp_path / "rogue/keys"), NOW_S)
    pem = rogue.issue_device(request(p256()), "default", "camera-1", NOW_S)
    with pytest.raises(CertificateError, match="not a certificate of this fleet"):
        office.authority.verify_device(pem, NOW_S)
    _, server = office.authority.issue_server([], NOW_S)
    with pytest.raises(CertificateError, match="not a client"):
        office.authority.verify_device(server, NOW_S)


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(65537, 2048),
        rsa.generate_private_key(65537, 1024),
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP256K1()),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["rsa2048", "rsa1024", "p384", "secp256k1", "ed25519"],
)
def test_other_keys_are_refused(office: TrustOffice, key: ec.EllipticCurvePrivateKey) -> None:
    with pytest.raises(CertificateError, match="refused") as refused:
        office.authority.issue_device(request(key), "default", "camera-1", NOW_S)
    assert "P-256" in refused.value.hint


def test_a_request_for_another_key_is_refused(office: TrustOffice) -> None:
    """The signature proves that the asker holds the key."""
    pem = request(p256())
    der = bytearray(x509.load_pem_x509_csr(pem.encode()).public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    altered = ssl.DER_cert_to_PEM_cert(bytes(der)).replace("CERTIFICATE", "CERTIFICATE REQUEST")
    with pytest.raises(CertificateError):
        office.authority.issue_device(altered, "default", "camera-1", NOW_S)


@pytest.mark.parametrize(
    "text", ["", "x", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"]
)
def test_no_request(office: TrustOffice, text: str) -> None:
    with pytest.raises(CertificateError):
        office.authority.issue_device(text, "default", "camera-1", NOW_S)
    with pytest.raises(CertificateError, match="at most"):
        office.authority.issue_device(text + " " * 20_000, "default", "camera-1", NOW_S)


@given(st.text(max_size=300))
def test_hostile_requests_are_refused_in_one_way(text: str) -> None:
    with pytest.raises(CertificateError):
        authority.request_key(text)


@pytest.mark.parametrize("name", ["+", "#", "a/b", "", "A", "a" * 64, "fleet\n", "..", "ä"])
def test_names_that_would_break_a_topic_are_refused(office: TrustOffice, name: str) -> None:
    for tenant, device in ((name, "camera-1"), ("default", name)):
        with pytest.raises(CertificateError):
            office.authority.issue_device(request(p256()), tenant, device, NOW_S)


def test_a_name_too_long_for_a_certificate(office: TrustOffice) -> None:
    with pytest.raises(CertificateError, match="longer than 64") as refused:
        office.authority.issue_device(request(p256()), "default", "a" * 63, NOW_S)
    assert "shorter" in refused.value.hint
    assert office.authority.issue_device(request(p256()), "default", "a" * 56, NOW_S)


def test_an_authority_is_made_once(office: TrustOffice, tmp_path: Path) -> None:
    again = Authority.create(tmp_path / "fleet", KeyStore(tmp_path / "fleet/keys"), NOW_S + DAY_S)
    assert again.certificate_pem == office.authority.certificate_pem
    (tmp_path / "fleet/keys/online/authority.pem").unlink()
    with pytest.raises(CertificateError, match="does not belong"):
        Authority.create(tmp_path / "fleet", KeyStore(tmp_path / "fleet/keys"), NOW_S)


def test_keys_that_others_may_read_are_refused(office: TrustOffice, tmp_path: Path) -> None:
    path = tmp_path / "fleet/keys/online/authority.pem"
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    with pytest.raises(KeyUnfitError) as refused:
        Authority(tmp_path / "fleet", KeyStore(tmp_path / "fleet/keys"))
    assert "chmod 600" in refused.value.hint


def test_a_revocation_list_names_its_serials(office: TrustOffice) -> None:
    pem = office.authority.issue_device(request(p256()), "default", "camera-1", NOW_S)
    serial = authority.serial_of(pem)
    crl = x509.load_pem_x509_crl(office.authority.revocation_list([serial, 7, serial], NOW_S).encode())
    key = x509.load_pem_x509_certificate(office.authority.certificate_pem.encode()).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey) and crl.is_signature_valid(key)
    assert len(crl) == 2 and crl.get_revoked_certificate_by_serial_number(serial) is not None


def test_the_brokers_certificate_is_renewed_in_time(office: TrustOffice, tmp_path: Path) -> None:
    folder = tmp_path / "broker"
    made = credentials.server(office.authority, folder, [], NOW_S)
    first = made.certificate.read_text()
    assert made.key.stat().st_mode & 0o777 == 0o600
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(made.certificate, made.key)
    assert credentials.server(office.authority, folder, ["127.0.0.1"], NOW_S + DAY_S).certificate.read_text() == first
    credentials.server(office.authority, folder, ["fleet.local", "192.0.2.7"], NOW_S)
    second = made.certificate.read_text()
    names = x509.load_pem_x509_certificate(second.encode()).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert {"fleet.local", "192.0.2.7", "localhost", "127.0.0.1", "::1"} == {str(name.value) for name in names.value}
    credentials.server(office.authority, folder, ["fleet.local"], NOW_S + 300 * DAY_S)
    assert made.certificate.read_text() != second
    fleet = credentials.fleet_client(office.authority, folder, "fleet", NOW_S)
    assert identity_of(fleet.certificate.read_text()) == "fleet"
    fleet.key.write_text(made.key.read_text())  # a cut between the two files
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(
        *_pair(credentials.fleet_client(office.authority, folder, "fleet", NOW_S))
    )


def _pair(made: credentials.Credentials) -> tuple[Path, Path]:
    return made.certificate, made.key
