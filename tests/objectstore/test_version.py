"""Versions of objects, in the container itself or in another one, and links."""

from tests.conftest import Bed, User

from .conftest import Account, files


def test_versions_stay_and_can_be_had_by_their_ids(cloud: Bed, account: Account) -> None:
    account("PUT", "c/o", b"null")
    assert account("POST", "c", X_Versions_Enabled="true").status == 204
    assert account("HEAD", "c").headers["x-versions-enabled"] == "True"
    ids = [account("PUT", "c/o", data).headers["x-object-version-id"] for data in (b"one", b"three")]
    assert account("GET", "c/o").text == "three"
    assert [account("GET", f"c/o?version-id={i}").text for i in ids] == ["one", "three"]
    assert account("GET", "c/o?version-id=1.0").status == 404
    assert account.stats("c") == (1, 12)
    gone = account("DELETE", "c/o")
    assert (gone.status, account("GET", "c/o").status, account.names("c")) == (204, 404, [])
    listed = account("GET", "c?versions&format=json").json
    assert [(e["name"], e["bytes"], e["is_latest"]) for e in listed] == [
        ("o", 0, True),
        ("o", 5, False),
        ("o", 3, False),
        ("o", 4, False),
    ]
    assert listed[0]["content_type"] == "application/x-deleted;swift_versions_deleted=1"
    assert account("GET", f"c/o?version-id={listed[0]['version_id']}").status == 404
    rest = account("GET", f"c?versions&format=json&marker=o&version_marker={listed[1]['version_id']}").json
    assert [e["bytes"] for e in rest] == [3, 4]
    assert account("PUT", f"c/o?version-id={ids[0]}").status == 201
    assert account("GET", "c/o").text == "one"
    assert account.stats("c") == (1, 12)
    assert account("DELETE", "c").status == 409
    account("DELETE", "c/o")
    assert account("DELETE", "c").status == 409, "versions are left"
    for entry in account("GET", "c?versions&format=json").json:
        assert account("DELETE", f"c/o?version-id={entry['version_id']}").status == 204
    assert (account.stats("c"), files(cloud)) == ((0, 0), [])
    assert account("DELETE", "c").status == 204


def test_versions_that_are_switched_off_stay(account: Account) -> None:
    account("POST", "c", X_Versions_Enabled="true")
    old = account("PUT", "c/o", b"one").headers["x-object-version-id"]
    account("POST", "c", X_Versions_Enabled="false")
    account("PUT", "c/o", b"two")
    account("PUT", "c/o", b"three")
    listed = account("GET", "c?versions&format=json").json
    assert [(e["version_id"] == "null", e["bytes"]) for e in listed] == [(True, 5), (False, 3)]
    after = account.names("c?versions&marker=o&version_marker=null")
    assert after == ["o"], "one version is older than the null version"
    assert account.names(f"c?versions&marker=o&version_marker={old}") == []
    assert account("GET", "c/o?version-id=null").text == "three"
    assert account("GET", f"c/o?version-id={old}").text == "one"
    assert account("DELETE", "c/o").status == 204
    assert account("GET", f"c/o?version-id={old}").text == "one"
    assert account.stats("c") == (0, 3)
    both = account("PUT", "d", X_Versions_Enabled="true", X_Versions_Location="c")
    assert both.status == 400


def test_a_stack_of_versions_in_another_container(cloud: Bed, account: Account) -> None:
    account("PUT", "old")
    account("POST", "c", X_Versions_Location="old")
    for data in (b"one", b"three", b"fifth"):
        account("PUT", "c/o", data)
    names = account.names("old")
    assert [n.rpartition("/")[0] for n in names] == ["001o", "001o"]
    assert account("GET", f"old/{names[0]}").text == "one"
    assert (account.stats("c"), account.stats("old")) == ((1, 5), (2, 8))
    for text in ("three", "one"):
        assert account("DELETE", "c/o").status == 204
        assert account("GET", "c/o").text == text
    account("DELETE", "c/o")
    assert account("GET", "c/o").status == 404
    assert (account.stats("c"), account.stats("old"), files(cloud)) == ((0, 0), (0, 0), [])
    account("PUT", "c/o", b"x")
    account("DELETE", "old")
    assert account("PUT", "c/o", b"y").status == 412
    assert account("GET", "c/o").text == "x"


def test_a_history_of_versions_in_another_container(account: Account) -> None:
    account("PUT", "old")
    account("POST", "c", X_History_Location="old")
    account("PUT", "c/o", b"one")
    account("PUT", "c/o", b"two")
    account("DELETE", "c/o")
    assert account("GET", "c/o").status == 404
    entries = account("GET", "old?format=json").json
    assert [e["bytes"] for e in entries] == [3, 3, 0]
    assert entries[2]["content_type"].startswith("application/x-deleted")
    told = account("POST", "c", X_Remove_History_Location="x")
    assert (told.status, "x-history-location" in account("HEAD", "c").headers) == (204, False)


def test_links(cloud: Bed, account: Account, bob: User) -> None:
    account("PUT", "d")
    account("PUT", "d/o", b"hello", X_Object_Meta_A="b")
    assert account("PUT", "c/link", X_Symlink_Target="d/o").status == 201
    got = account("GET", "c/link", Range="bytes=1-")
    assert (got.text, got.headers["x-object-meta-a"]) == ("ello", "b")
    assert got.headers["content-location"] == f"/v1/{account.name}/d/o"
    itself = account("GET", "c/link?symlink=get")
    assert (itself.text, itself.headers["x-symlink-target"]) == ("", "d/o")
    assert account("GET", "c?format=json").json[0]["symlink_path"] == f"/v1/{account.name}/d/o"
    moved = account("POST", "c/link", X_Object_Meta_A="c")
    assert (moved.status, moved.headers["location"].endswith(f"/object-store/v1/{account.name}/d/o")) == (
        307,
        True,
    )
    account("COPY", "c/link", Destination="c/copy")
    assert account("GET", "c/copy?symlink=get").text == "hello"
    account("COPY", "c/link?symlink=get", Destination="c/link2")
    account("PUT", "c/link3", X_Symlink_Target="c/link2")
    assert account("GET", "c/link3").text == "hello"
    account("PUT", "c/link4", X_Symlink_Target="c/link3")
    assert account("GET", "c/link4").status == 409
    etag = account("HEAD", "d/o").headers["etag"]
    assert account("PUT", "c/static", X_Symlink_Target="d/o", X_Symlink_Target_Etag=etag).status == 201
    assert account("PUT", "c/x", X_Symlink_Target="d/o", X_Symlink_Target_Etag="0").status == 409
    assert account("PUT", "c/x", X_Symlink_Target="c/x").status == 400
    assert account("PUT", "c/x", b"data", X_Symlink_Target="d/o").status == 400
    account("PUT", "d/o", b"other")
    assert [account("GET", f"c/{n}").status for n in ("static", "link")] == [409, 200]
    account("DELETE", "d/o")
    assert account("GET", "c/link").status == 404
    other = Account(bob)
    other("PUT", "mine")
    other("PUT", "mine/link", X_Symlink_Target="c/copy", X_Symlink_Target_Account=account.name)
    assert other("GET", "mine/link").status == 403
    account("POST", "c", X_Container_Read=f"{bob.project_id}:*")
    assert other("GET", "mine/link").text == "hello"
