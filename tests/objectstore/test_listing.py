"""Lists of containers and objects, and the numbers that say how much there is."""

import json
import threading
import xml.etree.ElementTree as ET
from urllib.parse import quote

import pytest

from tests.conftest import Bed, User

from .conftest import Account

NAMES = ["a", "b/1", "b/2", "b/c/3", "c", "d/", "d/4", "é", "z"]


@pytest.fixture
def full(account: Account) -> Account:
    for name in NAMES:
        assert account("PUT", f"c/{quote(name)}", b"x").status == 201
    return account


_PARTS: list[tuple[str, list[str]]] = [
    ("", sorted(NAMES)),
    ("limit=2", ["a", "b/1"]),
    ("limit=0", []),
    ("marker=b/2", ["b/c/3", "c", "d/", "d/4", "z", "é"]),
    ("marker=b/2&end_marker=d/", ["b/c/3", "c"]),
    ("end_marker=b/2", ["a", "b/1"]),
    ("prefix=b/", ["b/1", "b/2", "b/c/3"]),
    ("delimiter=/", ["a", "b/", "c", "d/", "z", "é"]),
    ("delimiter=/&limit=2", ["a", "b/"]),
    ("delimiter=/&marker=b/", ["c", "d/", "z", "é"]),
    ("delimiter=/&prefix=b/", ["b/1", "b/2", "b/c/"]),
    ("delimiter=/&prefix=d/", ["d/", "d/4"]),
    ("path=b", ["b/1", "b/2"]),
    ("path=d/", ["d/4"]),
    ("path=", ["a", "c", "d/", "z", "é"]),
    ("reverse=true&limit=3", ["é", "z", "d/4"]),
    ("reverse=true&marker=c", ["b/c/3", "b/2", "b/1", "a"]),
    ("reverse=true&marker=c&end_marker=b/1", ["b/c/3", "b/2"]),
    ("reverse=true&delimiter=/", ["é", "z", "d/", "c", "b/", "a"]),
    ("delimiter=b/", ["a", "b/", "c", "d/", "d/4", "z", "é"]),
    ("prefix=%C3%A9", ["é"]),
]


def test_parts_of_a_list(full: Account) -> None:
    for query, names in _PARTS:
        got = full("GET", f"c?{query}")
        assert got.text.splitlines() == names, query
        assert got.status == (200 if names else 204)


def test_a_directory_that_is_larger_than_a_page_is_one_entry(account: Account) -> None:
    for name in [*(f"big/{n:02}" for n in range(20)), "more/1", "more/2", "t"]:
        account("PUT", f"c/{name}", b"")
    assert account.names("c?delimiter=/&limit=3") == ["big/", "more/", "t"]
    assert account.names("c?delimiter=/&limit=3&reverse=1") == ["t", "more/", "big/"]


def test_formats(full: Account) -> None:
    got = full("GET", "c?format=json&limit=1")
    entry = got.json[0]
    assert got.headers["content-type"] == "application/json; charset=utf-8"
    assert {k: entry[k] for k in ("name", "bytes", "hash", "content_type")} == {
        "name": "a",
        "bytes": 1,
        "hash": "9dd4e461268c8034f5c8564e155c67a6",
        "content_type": "application/octet-stream",
    }
    assert "Z" not in entry["last_modified"]
    assert full("GET", "c", Accept="application/json").json[0] == entry
    assert json.loads(full("GET", "c?delimiter=/", Accept="application/json").text)[1] == {"subdir": "b/"}
    tree = ET.fromstring(full("GET", "c?format=xml&delimiter=/").text)
    assert (tree.tag, tree.attrib["name"], tree[0][0].text) == ("container", "c", "a")
    assert (tree[1].tag, tree[1].attrib["name"]) == ("subdir", "b/")
    tree = ET.fromstring(full("GET", "?format=xml").text)
    assert [(t.tag, [f.text for f in t][:3]) for t in tree] == [("container", ["c", "9", "9"])]
    assert full("GET", "?format=json").json[0]["count"] == 9
    assert full("GET", "c", Accept="image/png").status == 406
    assert full("GET", "c?limit=10001").status == 412
    assert full("GET", "c?limit=x").status == 200


def test_an_account_counts_what_its_containers_have(account: Account) -> None:
    account("PUT", "d")
    account("PUT", "c/o", b"12345")
    account("PUT", "d/o", b"12")
    told = account("HEAD").headers
    assert [told[f"x-account-{n}"] for n in ("container-count", "object-count", "bytes-used")] == [
        "2",
        "2",
        "7",
    ]
    assert told["x-account-storage-policy-policy-0-bytes-used"] == "7"
    assert account.names() == ["c", "d"]
    assert account.names("?marker=c") == ["d"]


def test_an_account_that_nothing_was_written_to_is_empty(alice: User) -> None:
    nothing = Account(alice)
    assert nothing("GET").status == 204
    assert nothing("HEAD").headers["x-account-container-count"] == "0"
    assert nothing("GET", "?format=json").json == []


def test_numbers_are_exact_whoever_writes_at_once(cloud: Bed, account: Account) -> None:
    wrong: list[object] = []

    def work(number: int) -> None:
        for turn in range(4):
            for method, path, want in (
                ("PUT", f"c/own{number}-{turn}", {201}),
                ("PUT", "c/shared", {201}),
                ("DELETE", f"c/own{number}-{turn}", {204}),
                ("PUT", f"c/stays{number}-{turn}", {201}),
            ):
                got = account(method, path, b"x" * (number + 1) if method == "PUT" else None)
                if got.status not in want:
                    wrong.append(got)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    entries = account("GET", "c?format=json").json
    assert len(entries) == 17
    assert account.stats("c") == (17, sum(e["bytes"] for e in entries))
