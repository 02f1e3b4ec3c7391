"""The test bed: a whole cloud in one process, asked as a user would ask it.

`cloud` is the real API, database and steps with fake hosts and a clock that the test turns. Each test that uses it
runs on SQLite, on PostgreSQL, and once more with every step executed twice. `cloud.admin`, `cloud.alice`,
`cloud.bob` (a member of another project) and `cloud.reader` (alice's project) are logged-in users.
"""

import gc
import json
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import falcon.testing
import pytest
import sqlalchemy as sa
import structlog

from stackling.base import db as database
from stackling.base import jobs, log
from stackling.base.clock import TurnedClock
from stackling.base.config import Config, Identity, Paths
from stackling.boot import assembly, events, fake

ADMIN_PASSWORD = "admin-pass-word"


class Answer:
    """What the cloud said."""

    def __init__(self, result: falcon.testing.Result) -> None:
        self.status = result.status_code
        self.headers = {k.lower(): v for k, v in result.headers.items()}
        self.text = result.content.decode(errors="replace")
        self.content = result.content

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    def __repr__(self) -> str:
        return f"<{self.status} {self.text[:2000]}>"


class User:
    """Somebody with a token, or nobody (`token=""`)."""

    def __init__(
        self,
        bed: "Bed",
        token: str,
        *,
        id: str = "",
        project_id: str = "",
        name: str = "",
        password: str = "",
    ) -> None:
        self.bed, self.token, self.id, self.project_id = bed, token, id, project_id
        self.name, self.password = name, password

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
        data: bytes | None = None,
    ) -> Answer:
        sent = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.token:
            sent["X-Auth-Token"] = self.token
        sent |= headers or {}
        path, _, query = path.partition("?")
        content = data if data is not None else json.dumps(body).encode() if body is not None else None
        return Answer(
            self.bed.client.simulate_request(method, path, query_string=query, body=content, headers=sent)
        )

    def get(self, path: str, **more: Any) -> Answer:
        return self.call("GET", path, **more)

    def post(self, path: str, body: Any = None, **more: Any) -> Answer:
        return self.call("POST", path, body, **more)

    def put(self, path: str, body: Any = None, **more: Any) -> Answer:
        return self.call("PUT", path, body, **more)

    def patch(self, path: str, body: Any = None, **more: Any) -> Answer:
        return self.call("PATCH", path, body, **more)

    def delete(self, path: str, **more: Any) -> Answer:
        return self.call("DELETE", path, **more)


def pytest_collection_finish() -> None:
    """As the server does when it has started: what is there is not garbage, and looking through it took half the time."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 10)


_engines: dict[str, Any] = {}


def _known(db: database.Database) -> database.Database:
    """Statements are compiled once for all databases of a kind; each test's own would be a third of its time."""
    first = _engines.setdefault(db.engine.name, db.engine)
    for engine in (db.engine, db._write_engine):
        engine.dialect, engine._compiled_cache = first.dialect, first._compiled_cache
    return db


class Bed:
    """One cloud under test."""

    def __init__(
        self,
        url: str,
        home: Path,
        *,
        twice: bool = False,
        hosts: tuple[str, ...] = ("n1",),
        prepared: bool = False,
    ) -> None:
        """`prepared`: database and home are a copy of another cloud's, as after a restart."""
        self.home = home
        self.clock = TurnedClock()
        paths = Paths(
            state_dir=str(home / "state"),
            run_dir=str(home / "run"),
            log_dir=str(home / "log"),
            config_dir=str(home / "etc"),
        )
        for made in (home / "state", home / "run", home / "log", home / "etc"):
            made.mkdir(parents=True, exist_ok=True)
        # Hashing as costly as in production would be most of the suite's time; its own test uses the real cost.
        self.config = Config(paths=paths, identity=Identity(hash_memory_kib=8192, hash_passes=1))
        self.db = _known(database.Database(url, durable=False))
        assembly.load_tables()
        if not prepared:
            database.metadata.create_all(self.db.engine)
        self.cloud = assembly.assemble(self.config, self.db, clock=self.clock)
        (home / "etc" / "admin-password").write_text(ADMIN_PASSWORD)
        self.hosts = fake.plug(self.cloud, hosts)
        if prepared:
            with self.db.begin() as tx:
                tx.execute(sa.update(jobs.job).values(due_at=self.clock.now()))
        else:
            assembly.prepare(self.cloud)
        events.follow(self.cloud)
        self.worker = jobs.Worker(self.cloud, assembly.machines(), twice=twice)
        self.client = falcon.testing.TestClient(assembly.application(self.cloud))
        self.nobody = User(self, "")
        self._users: dict[str, User] = {}
        self.settle()

    def host(self, name: str) -> Any:
        """The fake hypervisor of a host."""
        return self.hosts[name]

    @property
    def fabric(self) -> Any:
        """The fake network engine."""
        return fake.fabric(self.cloud)

    def settle(self) -> None:
        """Run all steps that are due."""
        self.worker.settle()

    def turn(self, seconds: float, *, every: float = 1.0) -> None:
        """Let time go by, running what falls due."""
        left = seconds
        while left > 0:
            self.clock.turn(min(every, left))
            left -= every
            self.settle()

    def login(
        self,
        name: str,
        password: str,
        *,
        project: str | None = None,
        domain: str = "default",
        scope: Any = None,
    ) -> User:
        """A user with a token for `project` (by name, of the default domain), or for `scope`, or unscoped."""
        auth: dict[str, Any] = {
            "identity": {
                "methods": ["password"],
                "password": {"user": {"name": name, "domain": {"id": domain}, "password": password}},
            }
        }
        if project:
            auth["scope"] = {"project": {"name": project, "domain": {"id": "default"}}}
        elif scope:
            auth["scope"] = scope
        got = self.nobody.post("/identity/v3/auth/tokens", {"auth": auth})
        assert got.status == 201, got
        token = got.json["token"]
        return User(
            self,
            got.headers["x-subject-token"],
            id=token["user"]["id"],
            project_id=token.get("project", {}).get("id", ""),
            name=name,
            password=password,
        )

    @property
    def admin(self) -> User:
        if "admin" not in self._users:
            self._users["admin"] = self.login("admin", ADMIN_PASSWORD, project="admin")
        return self._users["admin"]

    def user(self, name: str, project: str, role: str) -> User:
        """A user with `role` on `project`, both made at first need, logged in."""
        key = f"{name}@{project}"
        if key not in self._users:
            v3, admin = "/identity/v3", self.admin
            found = admin.get(f"{v3}/projects?name={project}").json["projects"]
            if not found:
                found = [admin.post(f"{v3}/projects", {"project": {"name": project}}).json["project"]]
            made = admin.post(f"{v3}/users", {"user": {"name": name, "password": f"{name}-pass-word"}})
            assert made.status == 201, made
            roles = {r["name"]: r["id"] for r in admin.get(f"{v3}/roles").json["roles"]}
            given = admin.put(
                f"{v3}/projects/{found[0]['id']}/users/{made.json['user']['id']}/roles/{roles[role]}"
            )
            assert given.status == 204, given
            self._users[key] = self.login(name, f"{name}-pass-word", project=project)
        return self._users[key]

    @property
    def alice(self) -> User:
        return self.user("alice", "blue", "member")

    @property
    def bob(self) -> User:
        return self.user("bob", "green", "member")

    @property
    def reader(self) -> User:
        return self.user("rita", "blue", "reader")

    def close(self) -> None:
        self.db.close()


# -- PostgreSQL --------------------------------------------------------------------------------------------------------


class Postgres:
    """A server of our own on a socket in a temporary directory; it ends with the tests."""

    def __init__(self, home: Path) -> None:
        self.home = home
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        self.bin = found[-1] if found else Path("/usr/bin")
        home.chmod(0o755)
        data = home / "data"
        data.mkdir()
        if os.geteuid() == 0:
            owner = pwd.getpwnam("postgres")
            os.chown(home, owner.pw_uid, owner.pw_gid)
            os.chown(data, owner.pw_uid, owner.pw_gid)
        self._run(
            "initdb",
            "-D",
            str(data),
            "-A",
            "trust",
            "-U",
            "postgres",
            "--no-sync",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
        )
        options = f"-k {home} -c listen_addresses= -c fsync=off -c synchronous_commit=off -c full_page_writes=off -c max_connections=200"
        self._run("pg_ctl", "-D", str(data), "-w", "-l", str(home / "log"), "-o", options, "start")
        self.engine = sa.create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT")
        self._made = 0

    def _run(self, program: str, *args: str) -> None:
        command = [str(self.bin / program), *args]
        if os.geteuid() == 0:
            command = ["runuser", "-u", "postgres", "--", *command]
        done = subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=120, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr}{done.stdout}")

    def url(self, name: str) -> str:
        return f"postgresql+psycopg://postgres@/{name}?host={self.home}"

    def fresh(self, like: str = "template1") -> str:
        """The URL of a new database, empty or a copy of the one named."""
        self._made += 1
        name = f"cloud{self._made}"
        with self.engine.connect() as c:
            c.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE {like} STRATEGY FILE_COPY")
        return self.url(name)

    def drop(self, url: str) -> None:
        with self.engine.connect() as c:
            c.exec_driver_sql(f"DROP DATABASE {sa.make_url(url).database} WITH (FORCE)")

    def stop(self) -> None:
        self.engine.dispose()
        self._run("pg_ctl", "-D", str(self.home / "data"), "-m", "immediate", "stop")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    home = Path(tempfile.mkdtemp(prefix="stackling-pg-", dir="/tmp"))
    server = Postgres(home)
    yield server
    server.stop()
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(autouse=True)
def _quiet_logs() -> Iterator[None]:
    log.setup(level="error")
    yield
    structlog.reset_defaults()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database of each kind."""
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        url = server.fresh()
        yield url
        server.drop(url)
    else:
        yield f"sqlite:///{tmp_path / 'state.db'}"


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a cloud that was started once, on SQLite, to be copied: starting is most of a short test's time."""
    home = tmp_path_factory.mktemp("prepared")
    Bed(f"sqlite:///{home / 'state.db'}", home).close()
    return home


@pytest.fixture(scope="session")
def prepared_postgres(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The same on PostgreSQL: the home, and the name of the database to copy."""
    home, url = tmp_path_factory.mktemp("prepared-postgres"), postgres.fresh()
    Bed(url, home).close()
    return home, str(sa.make_url(url).database)


@pytest.fixture(params=["sqlite", "postgresql", "sqlite-twice"])
def cloud(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bed]:
    """A fresh cloud with one fake host, `n1`."""
    home = tmp_path / "cloud"
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        original, name = request.getfixturevalue("prepared_postgres")
        shutil.copytree(original, home)
        url = server.fresh(name)
        bed = Bed(url, home, prepared=True)
        yield bed
        bed.close()
        server.drop(url)
    else:
        shutil.copytree(request.getfixturevalue("prepared"), home)
        bed = Bed(
            f"sqlite:///{home / 'state.db'}", home, twice=request.param == "sqlite-twice", prepared=True
        )
        yield bed
        bed.close()


@pytest.fixture
def alice(cloud: Bed) -> User:
    return cloud.alice


@pytest.fixture
def bob(cloud: Bed) -> User:
    return cloud.bob


@pytest.fixture
def admin(cloud: Bed) -> User:
    return cloud.admin


@pytest.fixture
def reader(cloud: Bed) -> User:
    return cloud.reader
