"""Accounts and containers: their metadata and quotas, and what their end takes along."""

from stackling.base import audit
from tests.conftest import Bed, User

from .conftest import V1, Account, files


def test_containers(account: Account) -> None:
    assert [account("PUT", "c").status, account("PUT", "d").status] == [202, 201]
    assert account("POST", "c", X_Container_Meta_A="1", X_Container_Meta_B="2").status == 204
    assert (
        account(
            "POST", "c", X_Container_Meta_A="", X_Remove_Container_Meta_B="x", X_Container_Meta_C="3"
        ).status
        == 204
    )
    told = account("HEAD", "c")
    assert told.status == 204
    assert [told.headers.get(f"x-container-meta-{n}") for n in "abc"] == [None, None, "3"]
    assert told.headers["x-storage-policy"] == "Policy-0"
    account("PUT", "c/o", b"x")
    assert account("DELETE", "c").status == 409
    account("DELETE", "c/o")
    assert [account("DELETE", "c").status, account("DELETE", "c").status] == [204, 404]
    for method in ("GET", "HEAD", "POST", "DELETE"):
        assert account(method, "nowhere").status == 404


def test_metadata_of_a_container_has_limits_in_all(account: Account) -> None:
    assert account("POST", "c", **{f"X_Container_Meta_{n}": "x" for n in range(60)}).status == 204
    more = {f"X_Container_Meta_{n}": "x" for n in range(60, 91)}
    assert account("POST", "c", **more).status == 400
    assert "x-container-meta-60" not in account("HEAD", "c").headers
    assert account("POST", "", **{f"X_Account_Meta_{n}": "x" for n in range(91)}).status == 400


def test_metadata_of_an_account(account: Account, reader: User) -> None:
    assert account("POST", "", X_Account_Meta_A="1").status == 204
    assert account("HEAD").headers["x-account-meta-a"] == "1"
    account("POST", "", X_Remove_Account_Meta_A="x")
    assert "x-account-meta-a" not in account("HEAD").headers


def test_quotas_of_a_container(account: Account) -> None:
    account("POST", "c", X_Container_Meta_Quota_Bytes="10", X_Container_Meta_Quota_Count="2")
    assert account("PUT", "c/a", b"x" * 11).status == 413
    assert account("PUT", "c/a", b"x" * 11, Content_Length="", Transfer_Encoding="chunked").status == 413
    assert account("PUT", "c/a", b"x" * 6).status == 201
    assert account("PUT", "c/b", b"x" * 5).status == 413
    assert account("COPY", "c/a", Destination="c/b").status == 413
    assert account("PUT", "c/a", b"x" * 10).status == 201, "what it takes the place of counts no more"
    assert [account("PUT", f"c/{n}").status for n in "bc"] == [201, 413]
    assert account("DELETE", "c/b").status == 204


def test_quotas_of_an_account_are_the_resellers_to_set(cloud: Bed, account: Account, admin: User) -> None:
    account("PUT", "d")
    for header in ("X_Account_Meta_Quota_Bytes", "X_Account_Quota_Bytes", "X_Account_Quota_Count"):
        assert account("POST", "", **{header: "3"}).status == 403
        assert account.by(admin)("POST", "", **{header: "many"}).status == 400
        assert account.by(admin)("POST", "", **{header: "3"}).status == 204
        assert account("HEAD").headers[header.lower().replace("_", "-")] == "3"
        assert account("PUT", "c/o", b"xx").status == 201
        if "Count" in header:
            assert [account("PUT", f"d/{n}").status for n in (1, 2, 3)] == [201, 201, 413]
        else:
            assert account("PUT", "d/o", b"xx").status == 413
        account.by(admin)("POST", "", **{header.replace("X_", "X_Remove_"): "x"})
    assert account("PUT", "d/o", b"xx").status == 201


def test_resellers_make_and_delete_accounts(cloud: Bed, account: Account, admin: User, bob: User) -> None:
    for user, status in ((account.user, 403), (bob, 403), (cloud.nobody, 401)):
        assert account.by(user)("PUT").status == status
        assert account.by(user)("DELETE").status == status
    made = Account(admin, "f" * 32)
    assert [made("PUT", X_Account_Meta_A="b").status, made("PUT").status] == [201, 202]
    assert made("HEAD").headers["x-account-meta-a"] == "b"
    account("PUT", "c/o", b"x")
    other = Account(bob)
    other("PUT", "c")
    other("PUT", "c/o", b"y")
    assert account.by(admin)("DELETE").status == 204
    assert account("GET").status == 410
    assert [account("GET", "c").status, account("PUT", "c").status, account.by(admin)("DELETE").status] == [
        404,
        403,
        404,
    ]
    cloud.settle()
    assert account("HEAD").headers["x-account-container-count"] == "0"
    assert account("PUT", "c").status == 201
    assert account.names("c") == []
    assert (len(files(cloud)), other("GET", "c/o").text) == (1, "y")


def test_what_a_deleted_project_leaves_can_be_removed(cloud: Bed, admin: User) -> None:
    carol = Account(cloud.user("carol", "red", "member"))
    carol("PUT", "c")
    carol("PUT", "c/o", b"x")
    assert admin.delete(f"/identity/v3/projects/{carol.user.project_id}").status == 204
    assert carol("GET").status == 401
    assert carol.by(admin)("DELETE").status == 204
    cloud.settle()
    assert files(cloud) == []


def test_a_role_of_the_resellers_is_there(cloud: Bed, account: Account) -> None:
    seller = cloud.user("sue", "sellers", "ResellerAdmin")
    assert account.by(seller)("POST", "", X_Account_Quota_Bytes="5").status == 204


def test_what_everybody_may_know(cloud: Bed) -> None:
    told = cloud.nobody.get("/object-store/info").json
    assert told["swift"]["policies"] == [{"name": "Policy-0", "aliases": "Policy-0", "default": True}]
    for name in (
        "slo",
        "dlo",
        "tempurl",
        "formpost",
        "staticweb",
        "symlink",
        "versioned_writes",
        "account_quotas",
    ):
        assert name in told
    assert cloud.nobody.get("/object-store/healthcheck").text == "OK"
    assert "cross-domain-policy" in cloud.nobody.get("/object-store/crossdomain.xml").text
    assert cloud.nobody.get("/object-store/nowhere").status == 404
    assert cloud.admin.call("PATCH", f"{V1}/AUTH_a/c", {}).status == 405


def test_administrators_acts_are_audited(cloud: Bed, account: Account, admin: User) -> None:
    account.by(admin)("PUT", "audited")
    account("PUT", "unaudited")
    with cloud.db.read() as tx:
        rows = tx.execute(audit.listing(service="object-store")).all()
    assert [(row.method, row.target_id, row.outcome) for row in rows] == [("PUT", "audited", "success")]


def test_the_catalog_says_where_the_account_is(cloud: Bed, alice: User) -> None:
    catalog = alice.get("/identity/v3/auth/catalog").json["catalog"]
    (found,) = [s for s in catalog if s["type"] == "object-store"]
    urls = {e["interface"]: e["url"] for e in found["endpoints"]}
    assert (found["name"], set(urls)) == ("swift", {"public", "internal", "admin"})
    assert urls["public"].endswith(f"{V1}/AUTH_{alice.project_id}")
    assert Account(alice)("GET").status == 204
