"""Samba as an Active Directory, that a round may fill, change, stop and start again."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ldap
import ldap.dn
import ldap.modlist

from tests.identity.slapd import certificates

ROOT = "DC=example,DC=test"
PEOPLE, GROUPS, ELSEWHERE = (f"OU={name},{ROOT}" for name in ("People", "Groups", "Elsewhere"))
DEEP, CROWD = f"OU=Deep,{PEOPLE}", f"OU=Crowd,{PEOPLE}"
# The reader, his password and the root are those of the page.
ADMINISTRATOR, PASSWORD = f"CN=Administrator,CN=Users,{ROOT}", "Passw0rd.Admin"


class ActiveDirectory:
    """Samba as the domain controller of example.test, on 127.0.0.1."""

    url, secure_url = "ldap://127.0.0.1", "ldaps://127.0.0.1"

    def __init__(self, home: Path) -> None:
        self.home, self.ca = home, home / "private" / "tls" / "ca.pem"
        provision = ["samba-tool", "domain", "provision", "--realm=EXAMPLE.TEST", "--domain=EXAMPLE"]
        provision += ["--server-role=dc", "--dns-backend=NONE", f"--adminpass={PASSWORD}"]
        provision += [f"--targetdir={home}", "--host-name=dc1", "--host-ip=127.0.0.1"]
        subprocess.run(provision, check=True, capture_output=True)
        self.ca.parent.mkdir(exist_ok=True)
        certificates(self.ca.parent)
        (self.ca.parent / "key.pem").chmod(0o600)
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        tls = self.ca.parent
        options = {
            "server services": "ldap",
            "interfaces": "lo",
            "bind interfaces only": "yes",
            "pid directory": self.home,
            "ncalrpc dir": self.home / "ncalrpc",
            "log file": self.home / "log",
            "tls keyfile": tls / "key.pem",
            "tls certfile": tls / "cert.pem",
            "tls cafile": self.ca,
        }
        command = ["samba", "-i", "--model=single", "-s", str(self.home / "etc" / "smb.conf")]
        command += [f"--option={name}={value}" for name, value in options.items()]
        quiet = subprocess.DEVNULL
        # It ends when nobody holds the other end of its standard input any more.
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet)
        ends = time.monotonic() + 60
        while True:
            try:
                self.connection().unbind_s()
                return
            except ldap.SERVER_DOWN:
                assert self._process.poll() is None, "samba doesn't start"
                assert time.monotonic() < ends, "samba doesn't answer"
                time.sleep(0.1)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)
            self._process = None

    def connection(self) -> Any:
        made = ldap.initialize(self.secure_url)
        made.set_option(ldap.OPT_REFERRALS, 0)
        made.set_option(ldap.OPT_X_TLS_CACERTFILE, str(self.ca))
        made.set_option(ldap.OPT_X_TLS_NEWCTX, 0)
        made.simple_bind_s(  # The reader, his password and the root are those of the page.
            ADMINISTRATOR, PASSWORD
        )
        return made

    @contextmanager
    def bound(self) -> Iterator[Any]:
        made = self.connection()
        yield made
        made.unbind_s()

    def raw(self, dn: str, attribute: str) -> bytes:
        with self.bound() as c:
            return bytes(c.search_s(dn, ldap.SCOPE_BASE, "(objectClass=*)", [attribute])[0][1][attribute][0])

    def add(self, dn: str, **attributes: Any) -> str:
        with self.bound() as c:
            put(c, dn, attributes)
        return dn

    def change(self, dn: str, attribute: str, *values: str) -> None:
        with self.bound() as c:
            c.modify_s(dn, [(ldap.MOD_REPLACE, attribute, [v.encode() for v in values] or None)])

    def password_set_in_2012(self, cn: str) -> None:
        """Which LDAP lets nobody say, so it is written to Samba's database."""
        entry = (
            f"dn: CN={cn},{PEOPLE}\nchangetype: modify\nreplace: pwdLastSet\npwdLastSet: 130000000000000000\n"
        )
        bypass = "--controls=local_oid:1.3.6.1.4.1.7165.4.3.12:0"
        command = ["ldbmodify", "-H", str(self.home / "private" / "sam.ldb"), bypass]
        subprocess.run(command, input=entry.encode(), check=True, capture_output=True)

    def remove(self, dn: str) -> None:
        with self.bound() as c:
            c.delete_s(dn)

    def rename(self, dn: str, rdn: str) -> str:
        with self.bound() as c:
            c.rename_s(dn, rdn)
        return f"{rdn},{dn.partition(',')[2]}"

    def person(
        self, name: str, cn: str | None = None, *, under: str = PEOPLE, control: int = 512, **more: Any
    ) -> str:
        """A user who logs in as `name` with `password_of(name)`."""
        dn = f"CN={ldap.dn.escape_dn_chars(cn or name)},{under}"
        secret = f'"{password_of(name)}"'.encode("utf-16-le")
        return self.add(
            dn,
            objectClass="user",
            sAMAccountName=name,
            userAccountControl=str(control),
            unicodePwd=secret,
            **more,
        )

    def group(self, name: str, *members: str, under: str = GROUPS) -> str:
        more = {"member": members} if members else {}
        return self.add(f"CN={name},{under}", objectClass="group", sAMAccountName=name, **more)


def password_of(name: str) -> str:
    return f"Passw0rd.{name}"


def put(c: Any, dn: str, attributes: dict[str, Any]) -> None:
    def plain(value: Any) -> bytes:
        return value if isinstance(value, bytes) else str(value).encode()

    values = {
        k: [plain(x) for x in (v if isinstance(v, tuple | list) else [v])] for k, v in attributes.items()
    }
    c.add_s(dn, ldap.modlist.addModlist(values))
