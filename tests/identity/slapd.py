"""A real OpenLDAP on loopback, with some people in it, that a test may change, stop and start again."""

import shutil
import socket
import subprocess
import time
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import ldap
import ldap.modlist
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

SUFFIX = "dc=example,dc=org"
ADMIN, ADMIN_PASSWORD = f"cn=root,{SUFFIX}", "directory secret"

_CONF = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
include /etc/ldap/schema/nis.schema
{active_directory}
pidfile {home}/pid
modulepath /usr/lib/ldap
moduleload back_mdb
TLSCACertificateFile {home}/ca.pem
TLSCertificateFile {home}/cert.pem
TLSCertificateKeyFile {home}/key.pem
sizelimit 4
database mdb
maxsize 104857600
suffix "{suffix}"
rootdn "{admin}"
rootpw "{password}"
directory {home}/data
limits dn.exact="cn=reader,{suffix}" size.soft=4 size.hard=4 size.pr=500 size.prtotal=unlimited
access to attrs=userPassword by anonymous auth by * none
access to * by users read by anonymous auth
"""

# As much of Active Directory's schema as people and groups need; OpenLDAP's own copy of it can't compare values.
_ACTIVE_DIRECTORY = """
attributetype ( 1.2.840.113556.1.4.2 NAME 'objectGUID' EQUALITY octetStringMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.40 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.4.146 NAME 'objectSid' EQUALITY octetStringMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.40 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.4.221 NAME 'sAMAccountName' EQUALITY caseIgnoreMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.4.8 NAME 'userAccountControl' EQUALITY integerMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.27 SINGLE-VALUE )
objectclass ( 1.2.840.113556.1.5.9 NAME 'user' SUP organizationalPerson STRUCTURAL
  MAY ( objectGUID $ objectSid $ sAMAccountName $ userAccountControl ) )
objectclass ( 1.2.840.113556.1.5.8 NAME 'group' SUP top STRUCTURAL
  MAY ( cn $ objectGUID $ objectSid $ sAMAccountName $ member ) )
"""


class Slapd:
    """Serves `url` and, with TLS, `secure_url` from construction to `stop`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        (home / "data").mkdir(parents=True)
        self.port, self.secure_port = _free_port(), _free_port()
        self.url, self.secure_url = f"ldap://127.0.0.1:{self.port}", f"ldaps://127.0.0.1:{self.secure_port}"
        self.ca = home / "ca.pem"
        certificates(home)
        conf = _CONF.format(
            home=home,
            suffix=SUFFIX,
            admin=ADMIN,
            password=ADMIN_PASSWORD,
            active_directory=_ACTIVE_DIRECTORY,
        )
        (home / "slapd.conf").write_text(conf)
        self._process: subprocess.Popen[bytes] | None = None
        self.start()
        self.add(SUFFIX, objectClass=["dcObject", "organization"], o="Example", dc="example")
        for unit in ("Users", "UserGroups"):
            self.add(f"ou={unit},{SUFFIX}", objectClass="organizationalUnit", ou=unit)
        self.add(
            f"cn=reader,{SUFFIX}",
            objectClass=["organizationalRole", "simpleSecurityObject"],
            cn="reader",
            userPassword="reads",
        )

    def start(self) -> None:
        program = shutil.which("slapd") or "/usr/sbin/slapd"
        listen = f"{self.url}/ {self.secure_url}/"
        command = [program, "-h", listen, "-f", str(self.home / "slapd.conf"), "-d", "0"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        ends = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert self._process.poll() is None, "slapd doesn't start"
                assert time.monotonic() < ends, "slapd doesn't answer"
                time.sleep(0.02)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)
            self._process = None

    # -- changing it, as its administrator ------------------------------------------------------------------------

    def _bound(self) -> Any:
        made = ldap.initialize(self.url)
        made.simple_bind_s(ADMIN, ADMIN_PASSWORD)
        return made

    def add(self, dn: str, **attributes: Any) -> str:
        values = {
            k: [x if isinstance(x, bytes) else x.encode() for x in ([v] if isinstance(v, str | bytes) else v)]
            for k, v in attributes.items()
        }
        c = self._bound()
        c.add_s(dn, ldap.modlist.addModlist(values))
        c.unbind_s()
        return dn

    def change(self, dn: str, attribute: str, *values: str) -> None:
        c = self._bound()
        c.modify_s(dn, [(ldap.MOD_REPLACE, attribute, [v.encode() for v in values] or None)])
        c.unbind_s()

    def remove(self, dn: str) -> None:
        c = self._bound()
        c.delete_s(dn)
        c.unbind_s()

    def person(self, uid: str, name: str | None = None, **more: str) -> str:
        """A person who logs in as `name` with the password `<uid>-pw`. `employeeType` says whether enabled."""
        values = {"sn": name or uid, "cn": f"{uid.title()} Person", "userPassword": f"{uid}-pw", **more}
        return self.add(f"uid={uid},ou=Users,{SUFFIX}", objectClass="inetOrgPerson", uid=uid, **values)

    def group(self, cn: str, *members: str, **more: str) -> str:
        dn = f"cn={cn},ou=UserGroups,{SUFFIX}"
        return self.add(dn, objectClass="groupOfNames", cn=cn, ou=cn, member=members or ("cn=none",), **more)


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def certificates(home: Path) -> None:
    """A CA, and a certificate of it for 127.0.0.1."""
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    now = datetime.now(UTC)

    def made(name: str, key: Any, ca: bool) -> x509.Certificate:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "the test's CA")])
        builder = (
            x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
        )
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
        return builder.add_extension(address, critical=False).sign(keys[0], hashes.SHA256())

    pem = serialization.Encoding.PEM
    (home / "ca.pem").write_bytes(made("the test's CA", keys[0], True).public_bytes(pem))
    (home / "cert.pem").write_bytes(made("127.0.0.1", keys[1], False).public_bytes(pem))
    private = keys[1].private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (home / "key.pem").write_bytes(private)
