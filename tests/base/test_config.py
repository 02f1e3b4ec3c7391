"""Configuration: every option typed, described and overridable."""

from pathlib import Path

import pytest

from stackling.base import config
from stackling.base.config import ConfigError


def test_every_option_is_described() -> None:
    undocumented = [f"{o.section}.{o.name}" for o in config.options(config.Config()) if len(o.says) < 10]
    assert undocumented == []


def test_every_option_stands_in_the_documentation() -> None:
    """docs/configuration.md is made by `python -m tools.options`; this says when it is old."""
    text = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
    missing = [
        f"{o.section}.{o.name}"
        for o in config.options(config.Config())
        if f"`{o.name}`" not in text or o.says not in text
    ]
    assert missing == []


def test_the_environment_wins_over_the_file_and_both_are_named(tmp_path: Path) -> None:
    file = tmp_path / "stackling.toml"
    file.write_text('[api]\nport = 1234\nlisten = "127.0.0.2"\n[[network.external]]\nname = "wan"\n')
    loaded, sources = config.load(file, {"STACKLING_API_PORT": "4321"})
    assert (loaded.api.port, loaded.api.listen) == (4321, "127.0.0.2")
    assert [n.name for n in loaded.network.external] == ["wan"]
    assert sources == {
        "api.port": "STACKLING_API_PORT",
        "api.listen": str(file),
        "network.external": str(file),
    }


@pytest.mark.parametrize(
    "text, names",
    [
        ("[api]\nport = 0\n", "api.port"),
        ("[api]\nprot = 1\n", "prot"),
        ("[apy]\n", "apy"),
        ("[api\n", "stackling.toml"),
        ("[compute]\ninstances = -2\n", "compute.instances"),
        ('[network]\nexternal = [{name = "no spaces"}]\n', "network.external"),
    ],
)
def test_a_bad_option_is_named(tmp_path: Path, text: str, names: str) -> None:
    file = tmp_path / "stackling.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=names):
        config.load(file, {})


def test_urls_follow_the_options() -> None:
    assert (
        config.load(None, {"STACKLING_API_TLS": "true", "STACKLING_API_PORT": "1"})[0].base_url
        == "https://127.0.0.1:1"
    )
    assert (
        config.load(None, {"STACKLING_API_PUBLIC_URL": "https://cloud.example/"})[0].base_url
        == "https://cloud.example"
    )
    assert config.load(None, {"STACKLING_API_LISTEN": "::1"})[0].base_url == "http://[::1]:9500"
