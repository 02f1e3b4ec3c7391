"""The unmodified `openstack` command: every command of every group of identity, against a cloud that is served."""

import contextlib
import io
import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.operator import Operator

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from openstackclient.shell import OpenStackShell

pytestmark = pytest.mark.filterwarnings("ignore")


class Client:
    """`openstack` as the administrator types it, in this process: starting Python is most of such a command's time."""

    def __init__(self, words: dict[str, str], home: Path) -> None:
        self.words, self.home = words, home

    def run(self, line: str | list[str], **more: str) -> tuple[int, str]:
        """(exit status, what was printed)"""
        argv = line.split() if isinstance(line, str) else line
        kept, printed = dict(os.environ), io.StringIO()
        for name in [n for n in os.environ if n.startswith("OS_")]:
            del os.environ[name]
        os.environ.update(self.words | more)
        try:
            with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
                status = OpenStackShell().run(argv)
                if isinstance(
                    status, tuple
                ):  # `federation protocol set` of this release answers with its columns
                    status = 0
        except SystemExit as e:
            status = int(e.code or 0)
        finally:
            os.environ.clear()
            os.environ.update(kept)
        return status, printed.getvalue()

    def __call__(self, line: str | list[str], **more: str) -> None:
        """A command that works and prints what doesn't matter."""
        status, printed = self.run(line, **more)
        assert status == 0, (line, printed)

    def json(self, line: str | list[str], **more: str) -> Any:
        """What a command prints as JSON."""
        argv = line.split() if isinstance(line, str) else line
        status, printed = self.run([*argv, "-f", "json"], **more)
        assert status == 0, (line, printed)
        return json.loads(printed[printed.index("{" if printed.lstrip()[:1] != "[" else "[") :])

    def make(self, line: str | list[str], **more: str) -> str:
        """The id of what a command made."""
        made = self.json(line, **more)
        return str(made.get("id") or made["ID"])

    def file(self, name: str, content: Any) -> str:
        path = self.home / name
        path.write_text(json.dumps(content))
        return str(path)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    home = tmp_path_factory.mktemp("client")
    operator = Operator(home)
    operator.says("up", "--fake")
    yield Client(json.loads(operator.says("env", "--fake", "--format", "json")), home)
    operator.run("down", "--fake", "--purge")


def names(rows: Any, column: str = "Name") -> set[str]:
    return {row[column] for row in rows}


def test_token_and_catalog(cloud: Client) -> None:
    issued = cloud.json("token issue")
    cloud("catalog list")
    assert cloud.json("catalog show compute")["type"] == "compute"
    assert cloud.json("catalog show volumev3")["name"] == "cinderv3"
    cloud(["token", "revoke", issued["id"]])
    by_token = {"OS_AUTH_TYPE": "token", "OS_TOKEN": issued["id"], "OS_USERNAME": "", "OS_PASSWORD": ""}
    assert cloud.run("project list", **by_token)[0] != 0
    cloud("versions show --service identity")
    cloud("limits show --absolute")


def test_domain(cloud: Client) -> None:
    id = cloud.make("domain create --description one acme")
    cloud("domain set --description two --disable acme")
    shown = cloud.json("domain show acme")
    assert (shown["id"], shown["description"], shown["enabled"]) == (id, "two", False)
    assert "acme" in names(cloud.json("domain list"))
    cloud("domain delete acme")


def test_project(cloud: Client) -> None:
    cloud("project create --description one --tag blue top")
    cloud("project create --parent top --property color=red sub")
    cloud("project set --description two --tag green top")
    shown = cloud.json("project show top")
    assert (shown["description"], sorted(shown["tags"])) == ("two", ["blue", "green"])
    cloud("project show --parents sub")
    cloud("project show --children top")
    assert names(cloud.json("project list --tags green")) == {"top"}
    assert {"top", "sub"} <= names(cloud.json("project list --long"))
    cloud("project set --clear-tags top")
    cloud("project delete sub top")


def test_user(cloud: Client) -> None:
    cloud("user create --password secret-word --email a@example.org --description one ada")
    cloud("user set --email b@example.org --ignore-lockout-failure-attempts --disable ada")
    shown = cloud.json("user show ada")
    assert (shown["email"], shown["enabled"]) == ("b@example.org", False)
    cloud("user set --enable --password other-word ada")
    assert "ada" in names(cloud.json("user list --long"))
    cloud("role add --user ada --project admin reader")
    mine = {"OS_USERNAME": "ada", "OS_PASSWORD": "other-word"}
    cloud("user password set --original-password other-word --password third-word", **mine)
    assert cloud.run("token issue", **mine)[0] != 0
    cloud("token issue", **(mine | {"OS_PASSWORD": "third-word"}))
    assert "ada" in names(cloud.json("user list --project admin"))
    cloud("user delete ada")


def test_group(cloud: Client) -> None:
    cloud("user create --password secret-word bob")
    cloud("group create --description one red")
    cloud("group set --description two red")
    assert cloud.json("group show red")["description"] == "two"
    cloud("group add user red bob")
    cloud("group contains user red bob")
    assert names(cloud.json("group list --user bob")) == {"red"}
    assert names(cloud.json("user list --group red")) == {"bob"}
    cloud("group remove user red bob")
    cloud("group delete red")
    cloud("user delete bob")


def test_role_implied_role_role_assignment(cloud: Client) -> None:
    cloud("role create --description one builder")
    cloud("role create --domain default local")
    cloud("role set --description two builder")
    assert cloud.json("role show builder")["description"] == "two"
    assert {"builder", "manager"} <= names(cloud.json("role list"))
    assert names(cloud.json("role list --domain default")) == {"local"}
    cloud("implied role create builder --implied-role reader")
    assert "builder" in names(cloud.json("implied role list"), "Prior Role Name")
    cloud("user create --password secret-word cleo")
    cloud("role add --user cleo --project admin builder")
    cloud("role add --user cleo --domain default --inherited builder")
    cloud("role add --user cleo --system all reader")
    assert len(cloud.json("role assignment list --user cleo --names")) == 3
    effective = cloud.json("role assignment list --user cleo --project admin --effective --names")
    assert {"builder", "reader"} == names(effective, "Role")
    cloud("role remove --user cleo --system all reader")
    cloud("role remove --user cleo --domain default --inherited builder")
    cloud("role remove --user cleo --project admin builder")
    cloud("implied role delete builder --implied-role reader")
    cloud("role delete builder")
    cloud("role delete --domain default local")
    cloud("user delete cleo")


def test_region_service_endpoint_endpoint_group(cloud: Client) -> None:
    cloud("region create --description one west")
    cloud("region create --parent-region west far-west")
    cloud("region set --description two west")
    assert cloud.json("region show west")["description"] == "two"
    assert "far-west" in names(cloud.json("region list"), "Region")
    cloud("service create --name lamps --description one lighting")
    cloud("service set --description two lamps")
    assert cloud.json("service show lamps")["description"] == "two"
    assert "lamps" in names(cloud.json("service list"))
    endpoint = cloud.make("endpoint create --region west lamps public http://lamps.example/v1")
    cloud(["endpoint", "set", "--url", "http://lamps.example/v2", endpoint])
    assert cloud.json(["endpoint", "show", endpoint])["url"] == "http://lamps.example/v2"
    assert names(cloud.json("endpoint list --service lamps"), "ID") == {endpoint}
    cloud("project create lit")  # a project with endpoints of its own sees no others in its catalog
    cloud(["endpoint", "add", "project", endpoint, "lit"])
    assert names(cloud.json("endpoint list --project lit"), "ID") == {endpoint}
    assert names(cloud.json(["endpoint", "list", "--endpoint", endpoint]), "Name") == {"lit"}
    cloud(["endpoint", "remove", "project", endpoint, "lit"])
    filters = cloud.file("filters.json", {"interface": "public"})
    cloud(["endpoint", "group", "create", "publics", filters, "--description", "one"])
    cloud("endpoint group set --description two publics")
    assert cloud.json("endpoint group show publics")["description"] == "two"
    assert "publics" in names(cloud.json("endpoint group list"))
    cloud("endpoint group add project publics lit")
    assert names(cloud.json("endpoint group list --project lit")) == {"publics"}
    cloud("endpoint group remove project publics lit")
    cloud("endpoint group delete publics")
    cloud("project delete lit")
    cloud(["endpoint", "delete", endpoint])
    cloud("service delete lamps")
    cloud("region delete far-west west")


def test_application_credential_access_rule(cloud: Client) -> None:
    rules = cloud.file("rules.json", [{"service": "compute", "method": "GET", "path": "/v2.1/servers"}])
    made = cloud.json(
        ["application", "credential", "create", "--role", "reader", "--access-rules", rules, "ci"]
    )
    assert "ci" in names(cloud.json("application credential list"))
    made = {name.lower(): value for name, value in made.items()}
    assert made["id"] in json.dumps(cloud.json("application credential show ci"))
    own = {
        "OS_AUTH_TYPE": "v3applicationcredential",
        "OS_APPLICATION_CREDENTIAL_ID": made["id"],
        "OS_APPLICATION_CREDENTIAL_SECRET": made["secret"],
        **dict.fromkeys(
            ("OS_USERNAME", "OS_PASSWORD", "OS_PROJECT_NAME", "OS_USER_DOMAIN_ID", "OS_PROJECT_DOMAIN_ID"), ""
        ),
    }
    cloud("token issue", **own)
    rule = cloud.json("access rule list")[0]["ID"]
    assert "/v2.1/servers" in cloud.json(["access", "rule", "show", rule]).values()
    cloud("application credential delete ci")
    cloud(["access", "rule", "delete", rule])


def test_credential_ec2_credentials(cloud: Client) -> None:
    blob = cloud.file("blob.json", {"access": "a", "secret": "s"})
    id = cloud.make(["credential", "create", "--type", "cert", "admin", blob])
    cloud(["credential", "set", "--user", "admin", "--type", "cert", "--data", blob, id])
    assert cloud.json(["credential", "show", id])["type"] == "cert"
    assert id in names(cloud.json("credential list --type cert"), "ID")
    cloud(["credential", "delete", id])
    access = cloud.json("ec2 credentials create")["access"]
    assert cloud.json(["ec2", "credentials", "show", access])["access"] == access
    assert access in names(cloud.json("ec2 credentials list"), "Access")
    cloud(["ec2", "credentials", "delete", access])


def test_trust(cloud: Client) -> None:
    cloud("user create --password secret-word dora")
    id = cloud.make("trust create --project admin --role reader --impersonate admin dora")
    assert cloud.json(["trust", "show", id])["id"] == id
    assert id in names(cloud.json("trust list --trustor admin"), "ID")
    mine = {"OS_USERNAME": "dora", "OS_PASSWORD": "secret-word", "OS_TRUST_ID": id}
    mine |= dict.fromkeys(("OS_PROJECT_NAME", "OS_PROJECT_DOMAIN_ID"), "")
    cloud("token issue", **mine)
    cloud(["trust", "delete", id])
    cloud("user delete dora")


def test_consumer_request_token_access_token(cloud: Client) -> None:
    made = cloud.json("consumer create --description one")
    cloud(["consumer", "set", "--description", "two", made["id"]])
    assert cloud.json(["consumer", "show", made["id"]])["description"] == "two"
    assert made["id"] in names(cloud.json("consumer list"), "ID")
    consumer = ["--consumer-key", made["id"], "--consumer-secret", made["secret"]]
    asked = cloud.json(["request", "token", "create", *consumer, "--project", "admin"])
    request = ["--request-key", asked["id"]]
    verified = cloud.json(["request", "token", "authorize", *request, "--role", "reader"])
    words = ["--request-secret", asked["secret"], "--verifier", verified["oauth_verifier"]]
    assert cloud.json(["access", "token", "create", *consumer, *request, *words])["id"]
    cloud(["consumer", "delete", made["id"]])


def test_registered_limit_limit(cloud: Client) -> None:
    words = "--service lights --region RegionOne"
    cloud("service create --name lights lighting")
    registered = cloud.json(f"registered limit create {words} --default-limit 10 --description one bulbs")[
        "id"
    ]
    cloud(["registered", "limit", "set", "--default-limit", "20", registered])
    assert cloud.json(["registered", "limit", "show", registered])["default_limit"] == 20
    assert registered in names(cloud.json("registered limit list --service lights"), "ID")
    id = cloud.json(f"limit create {words} --project admin --resource-limit 5 bulbs")["id"]
    cloud(["limit", "set", "--resource-limit", "6", id])
    assert cloud.json(["limit", "show", id])["resource_limit"] == 6
    assert id in names(cloud.json("limit list --project admin"), "ID")
    cloud(["limit", "delete", id])
    cloud(["registered", "limit", "delete", registered])
    cloud("service delete lights")
    cloud("quota set --instances 7 --routers 3 --volumes 4 admin")
    shown = {row["Resource"]: row["Limit"] for row in cloud.json("quota show admin")}
    assert (shown["instances"], shown["routers"], shown["volumes"]) == (7, 3, 4)
    assert {"servers", "router", "volumes"} == names(
        cloud.json("limit list --project admin"), "Resource Name"
    )
    cloud("quota delete admin")
    assert cloud.json("limit list --project admin") == []


def test_policy(cloud: Client) -> None:
    rules = cloud.file("policy.json", {"it": "role:admin"})
    id = cloud.make(["policy", "create", "--type", "application/json", rules])
    cloud(["policy", "set", "--rules", rules, id])
    assert cloud.json(["policy", "show", id])["id"] == id
    assert id in names(cloud.json("policy list"), "ID")
    cloud(["policy", "delete", id])


def test_identity_provider_mapping_federation_service_provider(cloud: Client) -> None:
    rules = cloud.file("mapping.json", [{"local": [{"user": {"name": "{0}"}}], "remote": [{"type": "sub"}]}])
    cloud("identity provider create --remote-id https://idp.example --description one corp")
    cloud("identity provider set --description two corp")
    assert cloud.json("identity provider show corp")["description"] == "two"
    assert "corp" in names(cloud.json("identity provider list"), "ID")
    cloud(["mapping", "create", "--rules", rules, "people"])
    cloud(["mapping", "set", "--rules", rules, "people"])
    assert cloud.json("mapping show people")["id"] == "people"
    assert "people" in names(cloud.json("mapping list"), "ID")
    cloud("federation protocol create --identity-provider corp --mapping people openid")
    cloud("federation protocol set --identity-provider corp --mapping people openid")
    assert cloud.json("federation protocol show --identity-provider corp openid")["mapping"] == "people"
    assert names(cloud.json("federation protocol list --identity-provider corp"), "id") == {"openid"}
    cloud("federation protocol delete --identity-provider corp openid")
    cloud("mapping delete people")
    cloud("identity provider delete corp")
    urls = "--auth-url https://far.example/v3 --service-provider-url https://far.example/sp"
    cloud(f"service provider create {urls} far")
    cloud("service provider set --description two far")
    assert cloud.json("service provider show far")["description"] == "two"
    assert "far" in names(cloud.json("service provider list"), "ID")
    cloud("service provider delete far")
    cloud("federation domain list")
    assert "admin" in names(cloud.json("federation project list"))
