"""Regular expressions that users send: refused with a reason, or matched in no time."""

import time

import pytest

from stackling.base import pattern
from stackling.base.errors import BadRequest


@pytest.mark.parametrize("text", ["[", "a(", r"(a)\1", "(?=a)", "(?i)a", "a{2000}", "x" * 256, "\ud800"])
def test_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="name"):
        pattern.checked(text, "name")


@pytest.mark.parametrize(
    ("text", "value", "fits"),
    [("^web-[0-9]+$", "web-12", True), ("^web-[0-9]+$", "web-x", False), ("b", "abc", True), ("ü.", "grün", True),
     ("a|b", None, False), ("", "x", True)],
)  # fmt: skip
def test_found_anywhere(text: str, value: str | None, fits: bool) -> None:
    assert pattern.matches(pattern.checked(text, "name"), value) is fits


@pytest.mark.parametrize("text", ["(a+)+$", "(a|aa)+$", "(a*)*b", "(.*a){20}$"])
def test_none_runs_for_long(text: str) -> None:
    began = time.process_time()
    assert not pattern.matches(pattern.checked(text, "name"), "a" * 5000 + "!")
    assert time.process_time() - began < 1
