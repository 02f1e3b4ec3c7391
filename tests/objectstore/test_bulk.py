"""Many objects in one request, and containers as web sites."""

import io
import tarfile

from tests.conftest import Bed, User

from .conftest import Account, files


def test_many_names_are_deleted_at_once(cloud: Bed, account: Account, bob: User) -> None:
    account("PUT", "d")
    for name in ("c/a", "c/b%20%C3%A9", "d/keep"):
        account("PUT", name, b"x")
    names = b"/c/a\nc/b%20%C3%A9\n\nc/missing\nc\nd\n"
    for method in ("POST", "DELETE"):
        got = account(method, "?bulk-delete", names, Content_Type="text/plain", Accept="application/json")
        assert got.status == 200
        told = got.json
        deleted, missing = (3, 1) if method == "POST" else (0, 4)
        assert (told["Number Deleted"], told["Number Not Found"]) == (deleted, missing)
        assert told["Errors"] == [["d", "409 Conflict"]]
        assert told["Response Status"] == "400 Bad Request"
    assert "Number Deleted: 0\n" in account("POST", "?bulk-delete", names).text
    assert "<number_deleted>0<" in account("POST", "?bulk-delete", names, Accept="application/xml").text
    assert (
        account("POST", "?bulk-delete", b"", Accept="application/json").json["Response Body"]
        == "Invalid bulk delete."
    )
    theirs = account.by(bob)("POST", "?bulk-delete", b"d/keep", Accept="application/json").json
    assert theirs["Errors"] == [["d/keep", "403 Forbidden"]]
    assert account.by(cloud.nobody)("POST", "?bulk-delete", b"d/keep").status == 401
    assert (account.names(), len(files(cloud))) == (["d"], 1)


def _archive(mode: str, names: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode=mode) as tar:
        for name, data in names.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return made.getvalue()


def test_an_archive_becomes_objects(cloud: Bed, account: Account, bob: User) -> None:
    inside = {"./one/a.txt": b"1", "two/dir/b": b"22" * 5000, "top": b"no container"}
    for mode, kind in (("w", "tar"), ("w:gz", "tar.gz"), ("w:bz2", "tar.bz2")):
        got = account("PUT", f"?extract-archive={kind}", _archive(mode, inside), Accept="application/json")
        assert (got.status, got.json["Number Files Created"], got.json["Response Status"]) == (
            200,
            2,
            "201 Created",
        )
    assert account("GET", "one/a.txt").headers["content-type"] == "text/plain"
    assert account("GET", "two/dir/b").content == b"22" * 5000
    below = account("PUT", "c/pre/fix?extract-archive=tar", _archive("w", inside), Accept="application/json")
    assert below.json["Number Files Created"] == 3
    assert account.names("c") == ["pre/fix/one/a.txt", "pre/fix/top", "pre/fix/two/dir/b"]
    broken = account("PUT", "?extract-archive=tar", b"nonsense", Accept="application/json").json
    assert (broken["Response Status"], broken["Response Body"][:16]) == (
        "400 Bad Request",
        "Invalid Tar File",
    )
    assert account("PUT", "?extract-archive=zip", b"x").status == 400
    refused = account.by(bob)(
        "PUT", "c?extract-archive=tar", _archive("w", inside), Accept="application/json"
    ).json
    assert {status for _, status in refused["Errors"]} == {"403 Forbidden"}


def test_a_container_is_a_web_site(cloud: Bed, account: Account) -> None:
    anybody = account.by(cloud.nobody)
    for name in ("index.html", "dir/page.html", "dir/sub/x", "404error.html"):
        account("PUT", f"c/{name}", name.encode())
    account("POST", "c", X_Container_Read=".r:*,.rlistings", X_Container_Meta_Web_Listings="true")
    moved = anybody("GET", "c")
    assert (moved.status, moved.headers["location"].endswith(f"{account.root}/c/")) == (301, True)
    page = anybody("GET", "c/dir/")
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=UTF-8")
    assert '<a href="./page.html">page.html</a>' in page.text
    assert '<a href="./sub/">sub/</a>' in page.text
    assert anybody("GET", "c/dir").headers["location"].endswith("/c/dir/")
    account(
        "POST", "c", X_Container_Meta_Web_Index="index.html", X_Container_Meta_Web_Listings_CSS="style.css"
    )
    assert anybody("GET", "c/").text == "index.html"
    assert 'href="../style.css"' in anybody("GET", "c/dir/").text
    assert account("GET", "c").text.startswith("404error.html\n"), "who has a token sees the container"
    assert account("GET", "c/", X_Web_Mode="true").text == "index.html"
    assert anybody("GET", "c/nothing").text.startswith("<html>")
    account("POST", "c", X_Container_Meta_Web_Error="error.html")
    lost = anybody("GET", "c/nothing")
    assert (lost.status, lost.text, lost.headers["content-type"]) == (404, "404error.html", "text/html")
    account("POST", "c", X_Remove_Container_Read="x")
    assert [anybody("GET", p).status for p in ("c/", "c/index.html", "c/dir/")] == [401, 401, 401]
