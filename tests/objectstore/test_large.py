"""Large objects: made of segments, and read as one."""

import hashlib
import json
from typing import Any

import pytest

from tests.conftest import Bed

from .conftest import Account, files


@pytest.fixture
def segments(account: Account) -> Account:
    """Segments `s/1`, `s/2` and `s/3` of 3 bytes each."""
    account("PUT", "s")
    for n, data in enumerate((b"abc", b"def", b"ghi"), 1):
        account("PUT", f"s/{n}", data)
    return account


def _put(account: Account, name: str, lines: Any, **headers: str) -> Any:
    body = lines if isinstance(lines, bytes) else json.dumps(lines).encode()
    return account("PUT", f"{name}?multipart-manifest=put", body, **headers)


def test_a_static_manifest(cloud: Bed, segments: Account) -> None:
    tags = [hashlib.md5(d).hexdigest() for d in (b"abc", b"def", b"ghi")]
    lines = [
        {"path": "/s/1", "etag": tags[0], "size_bytes": 3},
        {"path": "s/2", "range": "1-"},
        {"path": "/s/3", "size_bytes": None},
    ]
    made = _put(segments, "c/big", lines, Content_Type="text/x")
    whole = hashlib.md5(f"{tags[0]}{tags[1]}:1-;{tags[2]}".encode()).hexdigest()
    assert (made.status, made.headers["etag"]) == (201, f'"{whole}"')
    got = segments("GET", "c/big")
    assert (got.text, got.headers["content-length"], got.headers["content-type"]) == (
        "abcefghi",
        "8",
        "text/x",
    )
    assert (got.headers["etag"], got.headers["x-static-large-object"]) == (f'"{whole}"', "True")
    assert segments("GET", "c/big", Range="bytes=2-4").text == "cef"
    assert segments("GET", "c/big", Range="bytes=-1").text == "i"
    assert segments("GET", "c/big", If_None_Match=whole).status == 304
    part = segments("GET", "c/big?part-number=2")
    assert (part.status, part.text, part.headers["x-parts-count"]) == (206, "ef", "3")
    assert segments("GET", "c/big?part-number=4").status == 416
    assert segments("GET", "c/big?part-number=x").status == 400
    entry = segments("GET", "c?format=json").json[0]
    assert (entry["bytes"], entry["slo_etag"]) == (8, f'"{whole}"')
    shown = segments("GET", "c/big?multipart-manifest=get")
    assert [(s["name"], s["bytes"], s.get("range")) for s in shown.json] == [
        ("/s/1", 3, None),
        ("/s/2", 3, "1-"),
        ("/s/3", 3, None),
    ]
    raw = segments("GET", "c/big?multipart-manifest=get&format=raw")
    assert _put(segments, "c/again", raw.content).headers["etag"] == f'"{whole}"'
    assert _put(segments, "c/deep", [{"path": "/c/big"}, {"path": "/s/1", "range": "-1"}]).status == 201
    assert segments("GET", "c/deep").text == "abcefghic"
    assert segments("GET", "c/deep", Range="bytes=3-8").text == "efghic"
    segments("COPY", "c/big", Destination="c/flat")
    flat = segments("GET", "c/flat")
    assert (flat.text, "x-static-large-object" in flat.headers) == ("abcefghi", False)
    segments("COPY", "c/big?multipart-manifest=get", Destination="c/same")
    assert segments("GET", "c/same").headers["etag"] == f'"{whole}"'
    segments("PUT", "s/2", b"xyz")
    assert segments("GET", "c/big").status == 409


def test_manifests_that_are_wrong_say_where(cloud: Bed, segments: Account) -> None:
    for lines, words in (
        (b"{", "JSON"),
        ([], "empty"),
        ([{"path": "/s/9"}], "/s/9, 404 Not Found"),
        ([{"path": "/x/9"}], "/x/9, 404 Not Found"),
        ([{"path": "/s/1", "etag": "0"}], "/s/1, Etag Mismatch"),
        ([{"path": "/s/1", "size_bytes": 4}], "/s/1, Size Mismatch"),
        ([{"path": "/s/1", "range": "9-"}], "/s/1, Unsatisfiable Range"),
        ([{"path": "/s"}], "container and an object"),
        ([{"path": "/s/1", "data": "eA=="}], "data"),
    ):
        got = _put(segments, "c/big", lines)
        assert (got.status, words in got.text) == (400, True), got
    assert _put(segments, "c/big", [{"path": "/s/1"}], ETag="0").status == 422
    assert (segments.stats("c"), len(files(cloud))) == ((0, 0), 3)


def test_a_manifest_goes_with_its_segments(cloud: Bed, segments: Account) -> None:
    _put(segments, "c/big", [{"path": "/s/1"}, {"path": "/s/2"}])
    gone = segments("DELETE", "c/big?multipart-manifest=delete", Accept="application/json").json
    assert (gone["Number Deleted"], gone["Response Status"], gone["Errors"]) == (3, "200 OK", [])
    assert (segments.names("s"), segments.names("c"), len(files(cloud))) == (["3"], [], 1)
    assert segments("DELETE", "s/3?multipart-manifest=delete").status == 400


def test_a_dynamic_manifest_is_all_that_begins_with_its_prefix(segments: Account) -> None:
    for n in (1, 2, 3):
        segments("COPY", f"s/{n}", Destination=f"s/p/{n}")
    segments("PUT", "c/big", b"", X_Object_Manifest="s/p/", X_Object_Meta_A="b")
    got = segments("GET", "c/big")
    assert (got.text, got.headers["x-object-manifest"], got.headers["x-object-meta-a"]) == (
        "abcdefghi",
        "s/p/",
        "b",
    )
    assert segments("HEAD", "c/big").headers["content-length"] == "9"
    assert segments("GET", "c/big", Range="bytes=2-6").text == "cdefg"
    segments("PUT", "s/p/4", b"jkl")
    assert segments("GET", "c/big").text == "abcdefghijkl"
    segments("COPY", "c/big", Destination="c/flat")
    assert "x-object-manifest" not in segments("HEAD", "c/flat").headers
    assert segments("GET", "c/flat").text == "abcdefghijkl"
    assert segments("GET", "c/big?multipart-manifest=get").text == ""


def test_readers_of_a_manifest_must_be_readers_of_its_segments(cloud: Bed, segments: Account) -> None:
    _put(segments, "c/static", [{"path": "/s/1"}])
    segments("COPY", "s/1", Destination="s/p/1")
    segments("PUT", "c/dynamic", b"", X_Object_Manifest="s/p/")
    segments("POST", "c", X_Container_Read=".r:*")
    anybody = segments.by(cloud.nobody)
    assert [anybody("GET", f"c/{name}").status for name in ("static", "dynamic")] == [401, 401]
    segments("POST", "s", X_Container_Read=".r:*")
    assert [anybody("GET", f"c/{name}").text for name in ("static", "dynamic")] == ["abc", "abc"]
