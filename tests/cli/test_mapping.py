"""`stackling identity mapping test`, as an operator runs it."""

import json
import subprocess
import sys
from pathlib import Path

RULES = [
    {
        "local": [{"user": {"name": "{0}"}}, {"groups": "{1}", "domain": {"id": "default"}}],
        "remote": [{"type": "uid"}, {"type": "groups", "whitelist": ["dev", "ops"]}],
    }
]


def run(*args: str, text: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stackling.cli.main", "identity", "mapping", "test", *args]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=120, check=False)


def test_what_a_mapping_comes_to(tmp_path: Path) -> None:
    rules, said = tmp_path / "rules.json", tmp_path / "assertion"
    rules.write_text(json.dumps(RULES))
    for assertion in ('{"uid": "ada", "groups": ["dev", "staff"]}', "uid: ada\ngroups: dev;staff\n"):
        said.write_text(assertion)
        done = run(str(rules), str(said))
        assert done.returncode == 0, done.stderr
        made = json.loads(done.stdout)
        assert made["user"]["name"] == "ada"
        assert [g["name"] for g in made["group_names"]] == ["dev"]
    rules.write_text(json.dumps({"rules": RULES}))
    done = run(str(rules), "-", "--claims", text='{"sub": "7", "iss": "x", "uid": "ada", "groups": ["ops"]}')
    assert [g["name"] for g in json.loads(done.stdout)["group_names"]] == ["ops"]


def test_what_is_wrong_is_told(tmp_path: Path) -> None:
    rules = tmp_path / "rules.json"
    rules.write_text(json.dumps(RULES))
    for args, text, says in (
        ((str(rules), "-"), "mail: x", "nobody comes in"),
        ((str(rules), "-"), '{"uid": 7}', "uid is neither"),
        ((str(rules), "-", "--claims"), '{"uid": "x"}', "sub and iss"),
        ((str(rules), str(tmp_path / "none")), "", "No such file"),
        ((str(tmp_path), "-"), "", "directory"),
    ):
        done = run(*args, text=text)
        assert done.returncode == 1
        assert says in done.stderr
        assert "Traceback" not in done.stderr
    rules.write_text("{")
    assert "not JSON" in run(str(rules), "-").stderr
    rules.write_text('[{"local": []}]')
    assert run(str(rules), "-").returncode == 1
