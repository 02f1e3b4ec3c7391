"""The `stackling` command as a person types it, against a cloud with fake hosts."""

import json
import os
import shutil
import signal
import socket
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.cli.operator import Operator

COMMANDS = (
    "up", "down", "status", "doctor", "env", "config", "policy", "policy list", "policy check", "docs", "docs states",
    "image", "image recipes", "image build", "image cloudify", "identity", "identity keys", "audit", "audit list",
)  # fmt: skip


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """An operator whose fake cloud is up."""
    made = Operator(tmp_path_factory.mktemp("operator"))
    made.says("up", "--fake")
    yield made
    made.run("down", "--fake", "--purge")


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[Operator]:
    """An operator who has started nothing yet."""
    made = Operator(tmp_path)
    yield made
    made.run("down", "--fake", "--purge")


def until_answers(port: int, within: float = 20) -> None:
    deadline = time.monotonic() + within
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).close()
            return
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(newcomer: Operator, command: str) -> None:
    said = newcomer.says(*command.split(), "--help")
    assert f"Usage: stackling {command}" in said


def test_version_and_an_unknown_command(newcomer: Operator) -> None:
    assert newcomer.says("--version").strip()[0].isdigit()
    wrong = newcomer.run("upp")
    assert wrong.returncode != 0
    assert "upp" in wrong.stdout + wrong.stderr


def test_a_cloud_lives_and_leaves_nothing(newcomer: Operator) -> None:
    said = newcomer.says("up", "--fake")
    assert f"Stackling is up: http://127.0.0.1:{newcomer.port}" in said
    assert "clouds.yaml" in said
    assert "is up already" in newcomer.says("up", "--fake")
    assert newcomer.says("down", "--fake") == "Stackling is down.\n"
    assert newcomer.says("down", "--fake") == "Stackling was not running.\n"
    assert "is up:" in newcomer.says("up", "--fake")
    assert "Nothing of it is left." in newcomer.says("down", "--fake", "--purge")
    assert list(newcomer.home.iterdir()) == []


def test_status_tells_of_every_part(operator: Operator) -> None:
    table = operator.says("status", "--fake")
    assert "memory of all parts" in table
    parts = {part["name"]: part for part in json.loads(operator.says("status", "--fake", "--json"))["parts"]}
    assert {"stackling", "database", "worker", "host fake1", "host fake2", "network"} <= set(parts)
    assert all(part["healthy"] for part in parts.values())
    assert parts["stackling"]["memory"] > 1000


def test_doctor_finds_nothing(operator: Operator) -> None:
    assert "agree" in operator.says("doctor", "--fake")
    found = json.loads(operator.says("doctor", "--fake", "--json"))
    assert found == {"host": [], "cloud": [], "running": True, "silent": ""}
    assert json.loads(operator.says("doctor", "--fake", "--fix", "--json"))["cloud"] == []


def test_env_gives_credentials_in_every_form(operator: Operator) -> None:
    lines = operator.says("env", "--fake")
    assert f"export OS_AUTH_URL=http://127.0.0.1:{operator.port}/identity/v3\n" in lines
    values = json.loads(operator.says("env", "--fake", "--format", "json"))
    clouds = yaml.safe_load(operator.says("env", "--fake", "--format", "clouds.yaml"))
    assert clouds["clouds"]["stackling"]["auth"]["password"] == values["OS_PASSWORD"]
    kept = operator.home / "stackling-fake" / "config"
    for name in ("clouds.yaml", "openrc", "admin-password"):
        assert (kept / name).stat().st_mode & 0o077 == 0, name
    body = {
        "user": {
            "name": values["OS_USERNAME"],
            "domain": {"id": "default"},
            "password": values["OS_PASSWORD"],
        }
    }
    auth = {"auth": {"identity": {"methods": ["password"], "password": body}}}
    request = urllib.request.Request(
        f"{values['OS_AUTH_URL']}/auth/tokens",
        json.dumps(auth).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 201


def test_config_tells_values_and_sources_and_no_password(operator: Operator) -> None:
    options = {(o["section"], o["name"]): o for o in json.loads(operator.says("config", "--fake", "--json"))}
    assert options["api", "port"]["value"] == operator.port
    assert options["api", "port"]["source"] == "STACKLING_API_PORT"
    assert options["paths", "state_dir"]["source"] == "--fake"
    assert all(option["says"] for option in options.values())
    changed = operator.says("config", "--fake", "--changed")
    assert "port = " in changed
    assert "token_lifetime" not in changed
    secret = operator.run(
        "config", "--fake", STACKLING_DATABASE_URL="postgresql+psycopg://me:s3cret@db/x"
    ).stdout
    assert "me:***@db" in secret
    assert "s3cret" not in secret


def test_config_prints_what_it_can_read_again(operator: Operator, tmp_path: Path) -> None:
    file = tmp_path / "stackling.toml"
    file.write_text(operator.says("config", "--fake"))
    again = json.loads(operator.says("config", "--config", str(file), "--json"))
    assert {o["source"] for o in again} == {str(file), "STACKLING_API_PORT"}


def test_states_are_drawn_from_the_code(operator: Operator) -> None:
    drawn = operator.says("docs", "states")
    assert "## compute.server" in drawn
    assert "stateDiagram-v2" in drawn
    one = operator.says("docs", "states", "compute.server")
    assert one.count("## ") == 1
    assert "there are" in operator.trouble("docs", "states", "compute.serve")


def test_a_killed_cloud_answers_again(operator: Operator) -> None:
    for _ in range(3):  # more than once within seconds: no reason to give up
        os.kill(operator.worker(), signal.SIGKILL)
        time.sleep(0.2)
        until_answers(operator.port)
    assert "all parts" in operator.says("status", "--fake")
    log = (operator.home / "stackling-fake" / "log" / "stackling.log").read_text()
    assert log.count('"worker.died"') == 3


def test_a_killed_supervisor_takes_its_workers_along_and_up_starts_anew(newcomer: Operator) -> None:
    newcomer.says("up", "--fake")
    worker = newcomer.worker()
    os.kill(
        json.loads((newcomer.home / "stackling-fake" / "run" / "cloud.json").read_text())["pid"],
        signal.SIGKILL,
    )
    deadline = time.monotonic() + 5
    while Path(f"/proc/{worker}/exe").exists() and "stackling" in Path(f"/proc/{worker}/cmdline").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert "not running" in newcomer.trouble("status", "--fake")
    assert "is up:" in newcomer.says("up", "--fake")
    assert "all parts" in newcomer.says("status", "--fake")


def test_what_needs_a_running_cloud_says_so(newcomer: Operator, tmp_path: Path) -> None:
    assert "start it with `stackling up --fake`" in newcomer.trouble("status", "--fake")
    assert "start the cloud with `stackling up --fake`" in newcomer.trouble("env", "--fake")
    assert "start it with `stackling up --fake`" in newcomer.says("doctor", "--fake")
    file = tmp_path / "my cloud.toml"
    file.write_text("")
    said = newcomer.trouble("status", "--fake", "--config", str(file))
    assert f"`stackling up --fake --config '{file}'`" in said
    file.unlink()


def test_a_cloud_is_found_where_it_was_started(newcomer: Operator) -> None:
    """Its port, and what else the environment told `up` alone, needn't be told again."""
    said = newcomer.says("up", "--fake")
    assert "stop it:     stackling down --fake" in said
    here = f"http://127.0.0.1:{newcomer.port}"
    del newcomer.environ["STACKLING_API_PORT"]
    assert f"OS_AUTH_URL={here}/identity/v3" in newcomer.says("env", "--fake")
    assert json.loads(newcomer.says("env", "--fake", "--format", "json"))["OS_AUTH_URL"].startswith(here)
    assert here in newcomer.says("status", "--fake")
    assert here in newcomer.says("up", "--fake")
    newcomer.says("down", "--fake")
    assert here not in newcomer.says("env", "--fake"), "where the next one will be"


def test_programs_of_sbin_are_found_where_the_path_lacks_them(newcomer: Operator) -> None:
    here = {"PATH": "/usr/bin:/bin", "STACKLING_PATHS_RUN_DIR": str(newcomer.home / "run")}
    found = json.loads(newcomer.run("doctor", "--json", **here).stdout)["host"]
    lacking = next(one["says"] for one in found if one["name"] == "packages")
    for package, program in (
        ("openvswitch-switch", "ovs-vswitchd"),
        ("libvirt-daemon", "libvirtd"),
        ("nftables", "nft"),
    ):
        assert not (package in lacking and shutil.which(program, path="/usr/sbin:/sbin")), lacking


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes somebody else, which needs root")
def test_without_root_only_the_fake_cloud_is_offered(newcomer: Operator) -> None:
    apart = {"STACKLING_PATHS_RUN_DIR": "/nowhere"}  # not the cloud that may run on this machine
    said = newcomer.trouble("up", nobody=True, **apart)
    assert "needs root" in said
    assert "stackling up --fake" in said
    assert "needs root" in newcomer.trouble("down", nobody=True, **apart)


def test_a_port_in_use_is_named_with_its_holder(newcomer: Operator) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", newcomer.port))
        busy.listen()
        said = newcomer.trouble("up", "--fake")
    assert f"port {newcomer.port} is in use by " in said
    assert f"(process {os.getpid()})" in said
    assert "STACKLING_API_PORT" in said


def test_a_directory_that_cannot_be_written_is_named(newcomer: Operator) -> None:
    file = newcomer.home / "file"
    file.write_text("")
    said = newcomer.trouble("up", "--fake", STACKLING_PATHS_LOG_DIR=str(file / "log"))
    assert f"{file / 'log'} can't be written" in said
    assert "log_dir" in said
    file.unlink()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[api]\nport = 99999999\n", "api.port"),
        ("[api]\nprot = 9000\n", "prot"),
        ("[api\n", "stackling.toml"),
        ("[log]\nlevel = 'loud'\n", "log.level"),
    ],
)
def test_a_wrong_configuration_is_named(newcomer: Operator, tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "stackling.toml"
    file.write_text(text)
    newcomer.environ.pop("STACKLING_API_PORT")
    for command in ("up", "status", "config", "down"):
        assert says in newcomer.trouble(command, "--fake", "--config", str(file))
    file.unlink()


def test_a_wrong_variable_and_a_missing_file_are_named(newcomer: Operator) -> None:
    assert "STACKLING_WORKER_THREADS" in newcomer.trouble("up", "--fake", STACKLING_WORKER_THREADS="0")
    assert "/nowhere.toml" in newcomer.trouble("config", "--config", "/nowhere.toml")
    assert "192.0.2.7" in newcomer.trouble("up", "--fake", STACKLING_API_LISTEN="192.0.2.7")


def test_a_database_that_cannot_be_had_is_told_and_not_tried_for_ever(newcomer: Operator) -> None:
    began = time.monotonic()
    said = newcomer.trouble("up", "--fake", STACKLING_DATABASE_URL="sqlite:////nowhere/state.db")
    assert "unable to open database file" in said.replace("\n", " ")
    assert time.monotonic() - began < 30
    assert "Stackling was not running." in newcomer.says("down", "--fake")


def test_commands_take_no_time(operator: Operator) -> None:
    operator.says("status", "--fake")
    began = time.monotonic()
    operator.says("status", "--fake")
    assert time.monotonic() - began < 4  # 0.6 s on an idle machine
