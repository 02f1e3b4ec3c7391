"""The body changes exactly at the boundary."""

from typing import Annotated

import pytest
from msgspec import UNSET, UnsetType, field

from stackling.base import rest
from stackling.base.errors import BadRequest, NotAcceptable
from stackling.base.microversion import Body, Microversions, Version, render, since, until, wire


class Nic(Body):
    uuid: str
    tag: Annotated[str, since("2.32")] = ""


class Server(Body):
    name: str
    flavor_ref: str = field(name="flavorRef")
    description: Annotated[str | None | UnsetType, since("2.19")] = UNSET
    personality: Annotated[list[str] | UnsetType, until("2.56")] = UNSET
    flavor_link: Annotated[dict[str, str], until("2.46"), wire("flavor")] = field(
        default_factory=lambda: {"id": "1"}
    )
    flavor: Annotated[dict[str, int], since("2.47")] = field(default_factory=lambda: {"vcpus": 1})
    networks: list[Nic] = []


def asked(version: str, **more: object) -> Server:
    return rest.convert(
        {"server": {"name": "s", "flavorRef": "1", **more}},
        Server,
        key="server",
        version=Version.parse(version),
    )


@pytest.mark.parametrize(
    "field_name, value, first, last",
    [
        ("description", "d", "2.19", "2.104"),
        ("personality", ["f"], "2.1", "2.56"),
        ("networks", [{"uuid": "n", "tag": "t"}], "2.32", "2.104"),
    ],
)
def test_a_field_is_known_from_its_first_to_its_last_version(
    field_name: str, value: object, first: str, last: str
) -> None:
    low, high = Version.parse(first), Version.parse(last)
    for minor in range(1, 105):
        version = Version(2, minor)
        if low <= version <= high:
            asked(str(version), **{field_name: value})
        else:
            with pytest.raises(BadRequest, match=r"Additional properties are not allowed"):
                asked(str(version), **{field_name: value})


def test_a_field_that_changes_its_type_shares_its_name() -> None:
    server = Server(name="s", flavor_ref="1")
    assert render(server, Version(2, 46))["flavor"] == {"id": "1"}
    assert render(server, Version(2, 47))["flavor"] == {"vcpus": 1}


def test_what_is_absent_at_a_version_reads_as_unset() -> None:
    assert asked("2.1").description is UNSET
    assert asked("2.19", description=None).description is None


RANGE = Microversions(
    word="compute",
    lowest=Version(2, 1),
    highest=Version(2, 90),
    legacy="X-OpenStack-Nova-API-Version",
    aliases=("nova",),
)


@pytest.mark.parametrize(
    "header, legacy, version",
    [
        (None, None, "2.1"),
        ("compute 2.30", None, "2.30"),
        ("volume 3.1, compute 2.30", "2.4", "2.30"),
        ("volume 3.1", None, "2.1"),
        (None, "2.4", "2.4"),
        ("compute latest", None, "2.90"),
    ],
)
def test_both_headers_ask(header: str | None, legacy: str | None, version: str) -> None:
    assert RANGE.asked(header, legacy) == Version.parse(version)


@pytest.mark.parametrize("text", ["compute 2.91", "compute 2.0", "compute 3.1"])
def test_out_of_range_is_not_acceptable(text: str) -> None:
    with pytest.raises(NotAcceptable):
        RANGE.asked(text, None)


@pytest.mark.parametrize(
    "text", ["compute 2", "compute two", "compute 2.01", "compute 2.-1", "compute ٢.٣", "compute 2.1.1"]
)
def test_a_malformed_version_is_a_bad_request(text: str) -> None:
    with pytest.raises(BadRequest):
        RANGE.asked(text, None)
