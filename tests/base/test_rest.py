"""The REST layer around handlers, seen from outside through a toy service."""

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import falcon
import falcon.testing
import pytest
from falcon import Request, Response
from msgspec import UNSET, Meta, UnsetType

from stackling.base import log, rest
from stackling.base.application import wsgi_app
from stackling.base.cloud import Cloud
from stackling.base.config import Api, Config
from stackling.base.context import Caller
from stackling.base.db import Database
from stackling.base.errors import Conflict, NotFound, Unauthorized
from stackling.base.microversion import Body, Microversions, Version, since
from stackling.base.policy import Policy, Rule

PROJECT = "0123456789abcdef0123456789abcdef"
_REQUEST_ID = re.compile(r"req-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class CreateToy(Body):
    name: Annotated[str, Meta(min_length=1, max_length=8)]
    size: int = 1
    colour: Annotated[str | UnsetType, since("1.5")] = UNSET


class ToyView(Body):
    name: str
    colour: Annotated[str, since("1.5")]


class Toys:
    def on_get(self, req: Request, resp: Response) -> None:
        resp.media = {
            "toys": rest.view(req, [ToyView(name="bear", colour="brown")]),
            "self": rest.self_url(req, _cloud_of(req)),
        }

    def on_post(self, req: Request, resp: Response) -> None:
        want = rest.body(req, CreateToy, key="toy")
        resp.status = 202
        resp.media = {"toy": {"name": want.name, "size": want.size, "who": rest.caller(req).user_id}}

    on_head = on_get


class Toy:
    def on_get(self, req: Request, resp: Response, name: str) -> None:
        if name == "broken":
            raise ZeroDivisionError("a bug with s3cret-in-it")
        if name == "held":
            raise Conflict(
                "Toy is held; give it back first", detail="holder=bob", headers={"Retry-After": "5"}
            )
        if name == "mine":
            rest.caller(req).may("toy:show")
        raise NotFound(f"No toy {name}")


class Root:
    public = True

    def on_get(self, req: Request, resp: Response) -> None:
        resp.media = {"versions": []}


def _cloud_of(req: Request) -> Cloud:
    return req.env["toy.cloud"]  # type: ignore[no-any-return]


def _envelope(problem: rest.Problem) -> rest.Envelope:
    return rest.Envelope(
        {"toyFault": {"code": problem.status, "kind": problem.kind, "message": problem.error.says}}
    )


TOY = rest.Service(
    name="toy",
    prefix="/toy",
    routes=lambda _: [("", Root()), ("/v1", Root()), ("/v1/toys", Toys()), ("/v1/toys/{name}", Toy())],
    envelope=_envelope,
    versions=Microversions("toy", Version(1, 1), Version(1, 9), legacy="X-Toy-Version"),
    version_root="/v1",
    scoped=True,
    headers=lambda _, resp: resp.set_header("X-Toy", "yes"),
)
STRICT = rest.Service(
    name="strict",
    prefix="/strict",
    routes=lambda _: [("/v1/toys", Toys())],
    envelope=_envelope,
    trailing_slash=False,
)


class Bed:
    """The application of the toy services, whose tokens are their bearers' names."""

    def __init__(self, home: Path) -> None:
        self.lines = io.StringIO()
        log.setup(stream=self.lines)
        policy = Policy([Rule("toy:show", "role:admin")])
        self.cloud = Cloud(
            Config(api=Api(max_body_mib=1)), Database(f"sqlite:///{home}/state.db", durable=False), policy
        )

        def authenticate(token: str) -> Caller:
            if token not in ("alice", "admin"):
                raise Unauthorized("no", detail="no such token")
            return Caller(
                policy=policy,
                user_id=f"id-of-{token}",
                project_id=PROJECT,
                roles=frozenset({"admin" if token == "admin" else "member"}),
            )

        self.client = falcon.testing.TestClient(wsgi_app(self.cloud, [TOY, STRICT], authenticate))

    def call(
        self,
        method: str,
        path: str,
        token: str | None = "alice",
        *,
        body: bytes = b"",
        remote: str = "192.0.2.1",
        **headers: str,
    ) -> Any:
        sent = {name.replace("_", "-"): value for name, value in headers.items()} | (
            {"X-Auth-Token": token} if token else {}
        )
        path, _, query = path.partition("?")
        more: dict[str, Any] = {"body": body, "headers": sent, "query_string": query, "remote_addr": remote}
        return self.client.simulate_request(method, path, extras={"toy.cloud": self.cloud}, **more)

    def get(self, path: str, token: str | None = "alice", **more: Any) -> Any:
        return self.call("GET", path, token, **more)

    def post(self, body: Any, **more: Any) -> Any:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.call("POST", "/toy/v1/toys", body=data, Content_Type="application/json", **more)

    @property
    def logged(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines.getvalue().splitlines()]


@pytest.fixture
def toys(tmp_path: Path) -> Iterator[Bed]:
    bed = Bed(tmp_path)
    yield bed
    bed.cloud.db.close()


def test_errors_come_in_the_services_envelope(toys: Bed) -> None:
    got = toys.get("/toy/v1/toys/held")
    assert (got.status_code, got.headers["Retry-After"]) == (409, "5")
    assert got.json == {
        "toyFault": {"code": 409, "kind": "error", "message": "Toy is held; give it back first"}
    }
    assert got.headers["Content-Type"] == "application/json"
    assert "holder=bob" not in got.text
    assert any(line.get("detail") == "holder=bob" for line in toys.logged)


def test_a_bug_is_a_500_that_says_nothing_of_it(toys: Bed) -> None:
    got = toys.get("/toy/v1/toys/broken")
    assert got.status_code == 500
    assert got.json["toyFault"]["message"].startswith("An unexpected error")
    assert "ZeroDivision" not in got.text
    [bug] = [line for line in toys.logged if line["event"] == "api.bug"]
    assert "ZeroDivisionError" in bug["exception"]
    assert bug["request_id"] == got.headers["X-Openstack-Request-Id"]


@pytest.mark.parametrize("token", [None, "mallory"])
def test_without_a_token_that_works_everything_but_versions_is_401(toys: Bed, token: str | None) -> None:
    for path in ("/toy/v1/toys", "/toy/v1/toys/bear", "/toy/v1/nothing-here"):
        got = toys.get(path, token)
        assert got.status_code == 401, path
        assert got.headers["WWW-Authenticate"].startswith("Keystone uri=")
        assert got.headers["WWW-Authenticate"].endswith('/identity/v3"')
    assert toys.get("/toy/v1", token).status_code == 200
    assert toys.get("/toy", token).status_code == 200


def test_unknown_paths_are_404_of_the_service_and_elsewhere_plain(toys: Bed) -> None:
    got = toys.get("/toy/v1/games")
    assert (got.status_code, got.json["toyFault"]["kind"]) == (404, "route")
    assert toys.get("/toy/v1/toys/bear").json["toyFault"] == {
        "code": 404,
        "kind": "error",
        "message": "No toy bear",
    }
    outside = toys.get("/toyshop")  # begins like a service and is none
    assert (outside.status_code, outside.json["error"]["code"]) == (404, 404)


def test_a_method_that_a_path_does_not_have_is_405_and_says_which_it_has(toys: Bed) -> None:
    got = toys.call("DELETE", "/toy/v1/toys")
    assert (got.status_code, got.json["toyFault"]["kind"]) == (405, "method")
    assert {"GET", "POST"} <= {m.strip() for m in got.headers["Allow"].split(",")}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "Malformed request body"),
        (b"{", "Malformed request body"),
        (b'{"toy": {"name": "\xff"}}', "Malformed request body"),
        (b"[" * 100_000, "Malformed request body"),
        (b'{"toy": {"name": "a\\u0000b"}}', "NUL"),
        ({"game": {}}, "toy: 'toy' is a required property"),
        ([], "'toy' is a required property"),
        ({"toy": {"name": "bear"}, "more": 1}, "'more' was unexpected"),
        ({"toy": {}}, "'name' is a required property"),
        ({"toy": []}, "toy"),
        ({"toy": {"name": "far too long a name"}}, "name: "),
        ({"toy": {"name": "bear", "size": "big"}}, "size: "),
        ({"toy": {"name": "bear", "weight": 1}}, "'weight' was unexpected"),
        (
            {"toy": {"name": "bear", "colour": "red"}},
            "'colour' was unexpected",
        ),  # not yet in the lowest version
    ],
)
def test_a_bad_body_is_400_and_names_what_is_wrong(toys: Bed, body: Any, says: str) -> None:
    got = toys.post(body)
    assert got.status_code == 400, got.text
    assert says in got.json["toyFault"]["message"]


@pytest.mark.parametrize("path", ["/toy/v1/toys/a%00b", "/toy/v1/toys?name=a%00b"])
def test_a_nul_in_the_url_is_400(toys: Bed, path: str) -> None:
    assert toys.get(path).status_code == 400


def test_a_body_larger_than_allowed_is_413(toys: Bed) -> None:
    big = b'{"toy": {"name": "' + b"x" * (1 << 20) + b'"}}'
    assert toys.post(big).status_code == 413
    chunked = toys.call(
        "POST", "/toy/v1/toys", body=big, Content_Length=""
    )  # nobody says how long it will be
    assert chunked.status_code in (400, 413)


def test_a_good_body_reaches_the_handler(toys: Bed) -> None:
    got = toys.post({"toy": {"name": "bear", "size": 3}})
    assert (got.status_code, got.json) == (202, {"toy": {"name": "bear", "size": 3, "who": "id-of-alice"}})


def test_every_answer_has_a_request_id_of_its_own(toys: Bed) -> None:
    ids = [
        toys.get(p).headers["X-Openstack-Request-Id"]
        for p in ("/toy", "/toy/v1/toys", "/toy/v1/toys/held", "/toy/v1/toys/broken", "/nowhere")
    ]
    assert len(set(ids)) == len(ids)
    assert all(_REQUEST_ID.fullmatch(i) for i in ids)


def test_a_callers_request_id_is_logged_and_a_strange_one_is_not(toys: Bed) -> None:
    given = "req-11111111-2222-3333-4444-555555555555"
    got = toys.get("/toy/v1/toys", X_Openstack_Request_Id=given)
    assert got.headers["X-Openstack-Request-Id"] != given
    toys.get("/toy/v1/toys", X_Openstack_Request_Id="req-no")
    assert [line.get("global_request_id") for line in toys.logged] == [given, None]


def test_microversions_shape_answers_and_stand_on_errors_too(toys: Bed) -> None:
    plain = toys.get("/toy/v1/toys")
    assert (plain.json["toys"], plain.headers["OpenStack-API-Version"]) == ([{"name": "bear"}], "toy 1.1")
    newer = toys.get("/toy/v1/toys", OpenStack_API_Version="toy 1.5")
    assert (newer.json["toys"], newer.headers["X-Toy-Version"]) == (
        [{"name": "bear", "colour": "brown"}],
        "1.5",
    )
    for headers in ({"OpenStack_API_Version": "toy latest"}, {"X_Toy_Version": "1.9"}):
        failed = toys.get("/toy/v1/toys/held", **headers)
        assert (failed.status_code, failed.headers["OpenStack-API-Version"]) == (409, "toy 1.9")
        assert failed.headers["Vary"] == "OpenStack-API-Version, X-Toy-Version"
        assert failed.headers["X-Toy"] == "yes"
    assert (
        toys.get("/toy/v1/toys", None, OpenStack_API_Version="toy 1.5").headers["OpenStack-API-Version"]
        == "toy 1.5"
    )
    assert (
        toys.post({"toy": {"name": "bear", "colour": "red"}}, OpenStack_API_Version="toy 1.5").status_code
        == 202
    )


@pytest.mark.parametrize(
    ("asked", "status"),
    [("toy 1.10", 406), ("toy 0.9", 406), ("toy one", 400), ("toy 1.05", 400), ("other 9.9", 200)],
)
def test_versions_that_are_none_or_out_of_range_are_refused(toys: Bed, asked: str, status: int) -> None:
    got = toys.get("/toy/v1/toys", OpenStack_API_Version=asked)
    assert (got.status_code, got.headers["OpenStack-API-Version"]) == (status, "toy 1.1")


def test_head_has_headers_and_no_body(toys: Bed) -> None:
    for path, status in (("/toy/v1/toys", 200), ("/toy/v1/toys/held", 405), ("/nowhere", 404)):
        got = toys.call("HEAD", path)
        assert (got.status_code, got.content) == (status, b""), path
        assert _REQUEST_ID.fullmatch(got.headers["X-Openstack-Request-Id"])


def test_a_project_in_the_path_is_the_callers_own(toys: Bed) -> None:
    for project in (
        PROJECT,
        f"{PROJECT[:8]}-{PROJECT[8:12]}-{PROJECT[12:16]}-{PROJECT[16:20]}-{PROJECT[20:]}",
    ):
        got = toys.get(f"/toy/v1/{project}/toys")
        assert got.status_code == 200
        assert got.json["self"].endswith(f"/toy/v1/{project}/toys")
    other = "f" * 32
    refused = toys.get(f"/toy/v1/{other}/toys")
    assert (refused.status_code, other in refused.json["toyFault"]["message"]) == (400, True)
    assert toys.get(f"/toy/v1/{other}/toys", "admin").status_code == 200


def test_a_slash_at_the_end_is_the_same_path_where_the_service_says_so(toys: Bed) -> None:
    assert toys.get("/toy/v1/toys/").status_code == 200
    assert toys.get("/strict/v1/toys").status_code == 200
    assert toys.get("/strict/v1/toys/").status_code == 404


def test_policy_refusals_are_403(toys: Bed) -> None:
    assert toys.get("/toy/v1/toys/mine").status_code == 403
    assert toys.get("/toy/v1/toys/mine", "admin").status_code == 404


def test_one_log_line_a_request_says_who_did_what_and_no_secret(toys: Bed) -> None:
    toys.post({"toy": {"name": "bear"}}, X_Subject_Token="s3cret-token")
    got = toys.get("/toy/v1/toys/held?password=s3cret-password")
    toys.get("/toy/v1/toys", None)
    first, _, second, third = toys.logged  # the second is the refusal's detail
    assert (first["method"], first["path"], first["status"]) == ("POST", "/toy/v1/toys", 202)
    assert (second["user"], second["project"], second["service"], second["status"]) == (
        "id-of-alice",
        PROJECT,
        "toy",
        409,
    )
    assert second["request_id"] == got.headers["X-Openstack-Request-Id"]
    assert 0 <= second["ms"] < 10_000
    assert (third["user"], third["project"], third["status"]) == (None, None, 401)
    assert "s3cret" not in toys.lines.getvalue()
    assert '"alice"' not in toys.lines.getvalue()  # which is her token


def test_metrics_are_for_the_machine_itself_and_for_admins(toys: Bed) -> None:
    toys.get("/toy/v1/toys")
    for one in toys.get("/metrics", None, remote="127.0.0.1"), toys.get("/metrics", "admin"):
        assert one.status_code == 200
        assert 'stackling_requests_total{method="GET",service="toy",status="200"} 1.0' in one.text
    assert toys.get("/metrics").status_code == 403
    assert toys.get("/metrics", None).status_code == 403
    assert toys.get("/metrics", None, remote="127.0.0.1", X_Forwarded_For="192.0.2.7").status_code == 403


def test_clients_cannot_make_series_without_end(toys: Bed) -> None:
    for n in range(5):
        toys.client.app(falcon.testing.create_environ("/toy/v1/toys", method=f"PLAY{n}"), lambda *_: None)
    shown = toys.get("/metrics", "admin").text
    assert "PLAY" not in shown
    assert 'method="other"' in shown
