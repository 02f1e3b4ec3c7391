"""Objects: what is sent comes back, with its headers, in whole or in part, and nothing is left of what is not kept."""

import hashlib
from urllib.parse import quote

import pytest

from stackling.objectstore.actions import upload
from stackling.objectstore.actions.access import Visitor
from stackling.objectstore.actions.object import New, Place
from tests.conftest import Bed, User

from .conftest import Account, files

MD5 = hashlib.md5(b"hello world").hexdigest()


def test_an_object_comes_back_as_it_was_sent(account: Account) -> None:
    sent = account(
        "PUT",
        quote("c/dir/häß.txt"),
        b"hello world",
        X_Object_Meta_Colour="grün".encode().decode("latin-1"),
        Content_Disposition="inline",
        Content_Encoding="identity",
    )
    assert (sent.status, sent.headers["etag"], sent.text) == (201, MD5, "")
    got = account("GET", quote("c/dir/häß.txt"))
    assert (got.status, got.content) == (200, b"hello world")
    assert got.headers["content-type"] == "text/plain"
    assert got.headers["x-object-meta-colour"].encode("latin-1").decode() == "grün"
    assert got.headers["content-disposition"] == "inline"
    assert got.headers["content-encoding"] == "identity"
    assert got.headers["last-modified"] == sent.headers["last-modified"]
    assert got.headers["x-trans-id"] == got.headers["x-openstack-request-id"]
    head = account("HEAD", quote("c/dir/häß.txt"))
    assert (head.status, head.text, head.headers["content-length"]) == (200, "", "11")
    assert account.names("c") == ["dir/häß.txt"]


def test_names_keep_their_slashes(account: Account) -> None:
    for name in ("a/", "a//b", "a/b/", "/a"):
        assert account("PUT", f"c/{name}", name.encode()).status == 201
    assert account.names("c") == ["/a", "a/", "a//b", "a/b/"]
    assert account("GET", "c/a//b").text == "a//b"


_WRONG: list[tuple[dict[str, str], int]] = [
    ({"ETag": "0" * 32}, 422),
    ({"Content_Length": "6000000000"}, 413),
    ({"X_Delete_At": "soon"}, 400),
    ({"X_Delete_At": "1000"}, 400),
    ({"X_Delete_After": "-1"}, 400),
    ({"X_Object_Meta_A": "x" * 257}, 400),
    ({f"X_Object_Meta_{'a' * 129}": "x"}, 400),
    ({f"X_Object_Meta_{n}": "x" for n in range(91)}, 400),
    ({f"X_Object_Meta_{n}": "x" * 200 for n in range(21)}, 400),
    ({"X_Object_Meta_A": "\xff\xfe"}, 400),
    ({"X_Object_Manifest": "nowhere"}, 400),
    ({"If_None_Match": "abc"}, 400),
    ({"Transfer_Encoding": "gzip"}, 501),
    ({"X_Symlink_Target": "nowhere"}, 412),
]


def test_what_is_wrong_is_refused_and_leaves_nothing(cloud: Bed, account: Account) -> None:
    for headers, status in _WRONG:
        answer = account("PUT", "c/o", b"hello", **headers)
        assert answer.status == status, (headers, answer)
        assert answer.headers["content-type"] == "text/html; charset=UTF-8"
        assert answer.text.startswith("<html><h1>")
    assert account.stats("c") == (0, 0)
    assert files(cloud) == []


def test_names_have_limits(account: Account) -> None:
    assert account("PUT", "c/" + "ä".encode().hex() * 256).status == 201
    assert account("PUT", "c/" + "x" * 1025, b"").status == 400
    assert account("PUT", "x" * 257).status == 400
    assert account("GET", "c?prefix=%FF").status == 412
    assert account("PUT", "nowhere/o", b"x").status == 404
    account("PUT", "c/o", b"x")
    assert account("COPY", "c/o", Destination="c/a%00b").status == 400
    account("PUT", "c/a%0Ab", b"x")
    account("PUT", "c/link", X_Symlink_Target="c/a%0Ab")
    assert account("GET", "c/link").headers["content-location"] == f"/v1/{account.name}/c/a%0Ab"


def test_a_length_must_be_known_or_chunked(account: Account, cloud: Bed) -> None:
    nothing = account.user.call("PUT", f"{account.root}/c/o")
    assert nothing.status == 411
    assert account("PUT", "c/o", b"hello", Content_Length="", Transfer_Encoding="chunked").status == 201
    assert account("DELETE", "c/o").status == 204
    assert account("PUT", "c/o", b"hello", Content_Length="9").status == 400
    assert files(cloud) == []


def test_what_is_overwritten_or_deleted_leaves_no_data(cloud: Bed, account: Account) -> None:
    for data in (b"one", b"three", b""):
        assert account("PUT", "c/o", data).status == 201
        assert account.stats("c") == (1, len(data))
        assert len(files(cloud)) == bool(data)
    account("PUT", "c/o", b"again")
    assert account("DELETE", "c/o").status == 204
    assert account("DELETE", "c/o").status == 404
    assert (account.stats("c"), files(cloud)) == ((0, 0), [])


_RANGES = [
    ("bytes=0-4", 206, "hello"),
    ("bytes=6-", 206, "world"),
    ("bytes=-5", 206, "world"),
    ("bytes=-99", 206, "hello world"),
    ("bytes=6-99", 206, "world"),
    ("bytes=11-", 416, None),
    ("bytes=-0", 416, None),
    ("bytes=5-2", 200, "hello world"),
    ("lines=1-2", 200, "hello world"),
    ("bytes=x", 200, "hello world"),
]


def test_ranges(account: Account) -> None:
    account("PUT", "c/o", b"hello world")
    for asked, status, text in _RANGES:
        got = account("GET", "c/o", Range=asked)
        assert got.status == status, asked
        if text is None:
            assert got.headers["content-range"] == "bytes */11"
        else:
            assert (got.text, got.headers["content-length"]) == (text, str(len(text)))


def test_several_ranges_at_once(account: Account) -> None:
    account("PUT", "c/o", b"hello world", Content_Type="text/x")
    got = account("GET", "c/o", Range="bytes=0-1, 99-, -2")
    kind, _, boundary = got.headers["content-type"].partition(";boundary=")
    assert (got.status, kind) == (206, "multipart/byteranges")
    parts = [
        f"--{boundary}\r\nContent-Type: text/x\r\nContent-Range: bytes {r}/11\r\n\r\n"
        for r in ("0-1", "9-10")
    ]
    assert got.text == f"{parts[0]}he\r\n{parts[1]}ld\r\n--{boundary}--"
    assert got.headers["content-length"] == str(len(got.content))


def test_conditions(account: Account) -> None:
    made = account("PUT", "c/o", b"hello world").headers["last-modified"]
    old = "Thu, 01 Jan 2015 00:00:00 GMT"
    for name, value, status in [
        ("If_None_Match", MD5, 304),
        ("If_None_Match", f'"x", "{MD5}"', 304),
        ("If_None_Match", "*", 304),
        ("If_None_Match", "x", 200),
        ("If_Match", MD5, 200),
        ("If_Match", "x", 412),
        ("If_Modified_Since", made, 304),
        ("If_Modified_Since", old, 200),
        ("If_Modified_Since", "yesterday", 200),
        ("If_Unmodified_Since", made, 200),
        ("If_Unmodified_Since", old, 412),
    ]:
        assert account("GET", "c/o", **{name: value}).status == status, (name, value)
    assert account("GET", "c/o", Range="bytes=0-1", If_Range=MD5).text == "he"
    assert account("GET", "c/o", Range="bytes=0-1", If_Range="other").text == "hello world"
    assert account("PUT", "c/o", b"x", If_None_Match="*").status == 412
    assert account("PUT", "c/new", b"x", If_None_Match="*").status == 201


def test_post_replaces_all_metadata(account: Account) -> None:
    account("PUT", "c/o.json", b"{}", X_Object_Meta_A="1", Content_Encoding="gzip")
    assert account("POST", "c/o.json", X_Object_Meta_B="2").status == 202
    told = account("HEAD", "c/o.json").headers
    assert told["x-object-meta-b"] == "2"
    assert "x-object-meta-a" not in told
    assert "content-encoding" not in told
    assert told["content-type"] == "application/json"
    assert account("POST", "c/o.json", Content_Type="text/x").status == 202
    assert account("HEAD", "c/o.json").headers["content-type"] == "text/x"
    assert account("POST", "c/nowhere").status == 404


def test_the_last_of_two_uploads_of_one_name_wins(cloud: Bed, account: Account) -> None:
    """The second begins and ends while the first still sends."""

    class Slow:
        def __init__(self) -> None:
            self.parts = [b"sl", b"ow"]

        def read(self, size: int = -1) -> bytes:
            if len(self.parts) == 1:
                assert account("PUT", "c/o", b"fast").status == 201
            return self.parts.pop(0) if self.parts else b""

    slow = Slow()
    who = Visitor(caller=None, signed=(account.name, None))
    upload.receive(
        cloud.cloud,
        who,
        Place(account.name, "c", "o"),
        New(content_type="x", headers={}),
        iter(slow.read, b""),
        4,
    )
    assert account("GET", "c/o").text == "slow"
    assert (account.stats("c"), len(files(cloud))) == ((1, 4), 1)


@pytest.mark.parametrize("number", ["--5", "1.5", "9" * 5000, "٣", "-1", "99999999999"])
@pytest.mark.parametrize("name", ["X-Delete-At", "X-Delete-After"])
def test_a_time_to_go_that_is_none_is_refused(account: Account, name: str, number: str) -> None:
    account("PUT", "c")
    sent = number.encode().decode("latin-1")
    assert account("PUT", "c/o", b"data", **{name: sent}).status == 400
    assert account("GET", "c/o").status == 404


def test_expired_objects_are_gone_at_once_and_removed_later(cloud: Bed, account: Account) -> None:
    now = int(cloud.clock.now().timestamp())
    assert account("PUT", "c/o", b"hello", X_Delete_After="100").status == 201
    told = account("HEAD", "c/o").headers
    assert int(told["x-delete-at"]) >= now
    account("PUT", "c/later", b"x")
    account("POST", "c/later", X_Delete_At=told["x-delete-at"])
    account("PUT", "c/deleted", b"x", X_Delete_After="100")
    cloud.clock.turn(101)
    for method in ("GET", "HEAD", "POST"):
        assert account(method, "c/o").status == 404
    assert account("DELETE", "c/deleted").status == 404
    assert account.stats("c") == (2, 6)
    cloud.turn(31, every=31)
    assert (account.stats("c"), files(cloud)) == ((0, 0), [])
    assert account("DELETE", "c").status == 204


def test_copies(cloud: Bed, account: Account) -> None:
    account("PUT", "d")
    account("PUT", "c/o", b"hello", X_Object_Meta_A="1", Content_Type="text/x")
    copied = account("COPY", "c/o", Destination="/d/p", X_Object_Meta_B="2")
    assert (copied.status, copied.headers["x-copied-from"]) == (201, "c/o")
    got = account("GET", "d/p")
    assert (got.text, got.headers["content-type"]) == ("hello", "text/x")
    assert (got.headers["x-object-meta-a"], got.headers["x-object-meta-b"]) == ("1", "2")
    assert account("PUT", "d/q", X_Copy_From="c/o", X_Fresh_Metadata="true").status == 201
    assert "x-object-meta-a" not in account("HEAD", "d/q").headers
    account("DELETE", "c/o")
    assert account("GET", "d/q").text == "hello"
    assert account("COPY", "d/q", Destination="d/q", X_Object_Meta_C="3").status == 201
    assert account("GET", "d/q").text == "hello"
    assert (account.stats("d"), len(files(cloud))) == ((2, 10), 2)
    assert account("COPY", "c/o", Destination="d/x").status == 404
    assert account("COPY", "d/p", Destination="nowhere/x").status == 404
    assert account("COPY", "d/p", Destination="nowhere").status == 412
    assert account("PUT", "d/x", b"data", X_Copy_From="d/p").status == 400


def test_copies_between_accounts_need_both(cloud: Bed, account: Account, bob: User) -> None:
    other = Account(bob)
    other("PUT", "theirs")
    account("PUT", "c/o", b"hello")
    out = {"Destination": "theirs/o", "Destination_Account": other.name}
    assert account("COPY", "c/o", **out).status == 403
    other("POST", "theirs", X_Container_Write=f"{account.user.project_id}:*")
    assert account("COPY", "c/o", **out).status == 201
    assert other("GET", "theirs/o").text == "hello"
    back = {"X_Copy_From": "c/o", "X_Copy_From_Account": account.name}
    assert other("PUT", "theirs/p", **back).status == 403
    account("POST", "c", X_Container_Read=f"{bob.project_id}:{bob.id}")
    assert other("PUT", "theirs/p", **back).status == 201
