"""docs/identity.md: what it says of directories and identity providers is run, command by command."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from stackling.base.clock import Clock
from tests.conftest import ADMIN_PASSWORD, Bed
from tests.identity.oidc_provider import AUDIENCE, CLIENT_ID, CLIENT_SECRET, OidcProvider
from tests.identity.saml_provider import SamlProvider
from tests.identity.slapd import SUFFIX, Slapd
from tests.identity.test_federated_clients import idp, oidc, served

__all__ = ["idp", "oidc", "served"]  # fixtures
PAGE = Path(__file__).parents[2] / "docs" / "identity.md"


def commands(title: str) -> list[str]:
    """The commands of the sections whose title begins like that, in their order."""
    sections = re.split(r"^## ", PAGE.read_text(), flags=re.M)
    blocks = [
        b for s in sections if s.startswith(title) for b in re.findall(r"```console\n(.*?)```", s, re.S)
    ]
    return [
        line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")
    ]


@pytest.fixture
def slapd() -> Iterator[Slapd]:
    home = Path(tempfile.mkdtemp(prefix="stackling-ldap-", dir="/tmp"))
    made = Slapd(home)
    made.group("dev", made.person("ada"))
    yield made
    made.stop()
    shutil.rmtree(home)


@pytest.mark.timeout(900)
def test_every_command(
    served: Bed,
    slapd: Slapd,
    oidc: OidcProvider,
    idp: SamlProvider,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    if "sqlite]" not in request.node.name:
        pytest.skip("the commands are the same on every database, and slow")
    served.cloud.clock = Clock()  # providers live in real time, and this takes a while
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        "HOME": str(tmp_path),
        "OS_AUTH_URL": f"{served.config.base_url}/identity/v3",
        "OS_USERNAME": "admin",
        "OS_PASSWORD": ADMIN_PASSWORD,
        "OS_PROJECT_NAME": "admin",
        "OS_USER_DOMAIN_ID": "default",
        "OS_PROJECT_DOMAIN_ID": "default",
        "OS_IDENTITY_API_VERSION": "3",
        "LDAP_URL": slapd.secure_url,
        "LDAP_SUFFIX": SUFFIX,
        "LDAP_USER": f"cn=reader,{SUFFIX}",
        "LDAP_PASSWORD": "reads",
        "LDAP_CA": str(slapd.ca),
        "OIDC_ISSUER": oidc.issuer,
        "OIDC_CLIENT_ID": CLIENT_ID,
        "OIDC_CLIENT_SECRET": CLIENT_SECRET,
        "OIDC_AUDIENCE": AUDIENCE,
        "SAML_METADATA_URL": idp.entity_id,
        "SAML_ECP_URL": f"{idp.url}/ecp",
    }
    listed = commands("Users of a directory") + commands("Identity providers") + commands("Other clouds")
    assert len(listed) > 20
    said = []
    for command in listed:
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        said.append(done.stdout)
        own = tmp_path / "stackling-sp.xml"
        if own.exists() and not idp.sp_metadata:
            idp.sp_metadata = [own.read_text()]
    assert "ada" in said[2]
    assert "dev" in said[3]
