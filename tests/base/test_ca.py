"""The cloud's own authority."""

from pathlib import Path

import pytest
from cryptography import x509

from stackling.base.ca import CertificateAuthority


def test_a_certificate_is_issued_once_and_its_key_is_private(tmp_path: Path) -> None:
    authority = CertificateAuthority(tmp_path / "ca")
    first = authority.issue("n1", ["n1.example", "127.0.0.1", "::1"], ["node"])
    before = first.cert.read_bytes()
    assert (
        CertificateAuthority(tmp_path / "ca").issue("n1", ["n1.example", "127.0.0.1", "::1"], ["node"])
        == first
    )
    assert first.cert.read_bytes() == before
    for key in (first.key, tmp_path / "ca" / "ca.key"):
        assert key.stat().st_mode & 0o777 == 0o600
    cert = x509.load_pem_x509_certificate(before)
    cert.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.certificate.read_bytes()))
    names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["n1.example"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["urn:stackling:role:node"]


def test_other_names_or_roles_make_another(tmp_path: Path) -> None:
    authority = CertificateAuthority(tmp_path)
    before = authority.issue("n1", ["n1"], ["node"]).cert.read_bytes()
    assert authority.issue("n1", ["n1"], ["control"]).cert.read_bytes() != before


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "x" * 65])
def test_a_name_that_is_a_path_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        CertificateAuthority(tmp_path).issue(name, [])
