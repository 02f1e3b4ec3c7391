"""Requests signed by AWS's own client log in with EC2 keys."""

import base64
import hashlib
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from stackling.base.clock import TurnedClock
from tests.conftest import Answer, Bed, User

V3 = "/identity/v3"
URL = "https://ec2.example:8788/"


@pytest.fixture
def key(cloud: Bed, alice: User) -> Credentials:
    # The signer takes the machine's time, so the cloud has it too.
    cloud.clock._now = datetime.now(UTC).replace(tzinfo=None)
    made = alice.post(f"{V3}/users/{alice.id}/credentials/OS-EC2", {"tenant_id": alice.project_id})
    shown = made.json["credential"]
    return Credentials(shown["access"], shown["secret"])


def asked(bed: Bed, key: Credentials, request: AWSRequest, signature: str, **more: Any) -> Answer:
    """What an EC2 API asks identity about a request that it got."""
    parts = urlsplit(request.url)
    sent = {
        "access": key.access_key,
        "signature": signature,
        "host": parts.netloc,
        "verb": request.method,
        "path": parts.path,
        "params": dict(parse_qsl(parts.query, keep_blank_values=True)),
        "headers": dict(request.headers.items()),
        "body_hash": hashlib.sha256(request.body or b"").hexdigest(),
        **more,
    }
    return bed.admin.post(f"{V3}/ec2tokens", {"credentials": sent})


def _is_alice(got: Answer, alice: User) -> bool:
    token = got.json["token"]
    return (token["user"]["id"], token["project"]["id"]) == (alice.id, alice.project_id)


@pytest.mark.parametrize("verb", ["GET", "POST"])
def test_version_2(cloud: Bed, alice: User, key: Credentials, verb: str) -> None:
    params = {"Action": "DescribeInstances", "Filter.1.Name": "tag:a b~c/d", "Filter.1.Value.1": "ü+&="}
    data = dict(params) if verb == "POST" else {}
    request = AWSRequest(verb, URL, params={} if data else dict(params), data=data)
    botocore.auth.SigV2Auth(key).add_auth(request)
    signed = request.data or request.params
    got = asked(cloud, key, request, signed["Signature"], params=signed, headers={})
    assert got.status == 200, got
    assert _is_alice(got, alice)
    for change in ({"Action": "TerminateInstances"}, {"Timestamp": "2020-01-01T00:00:00Z"}):
        assert asked(cloud, key, request, signed["Signature"], params={**signed, **change}).status == 401
    cloud.clock.turn(901)
    assert asked(cloud, key, request, signed["Signature"], params=signed, headers={}).status == 401


def _signature(request: AWSRequest) -> str:
    return str(request.headers["Authorization"]).rpartition("Signature=")[2]


@pytest.mark.parametrize(
    "verb, query, body",
    [
        ("GET", "Action=DescribeInstances&Filter.1.Name=a%20b~c%2Fd", b""),
        ("POST", "", b"Action=RunInstances&ImageId=ami-1"),
    ],
)
def test_version_4(cloud: Bed, alice: User, key: Credentials, verb: str, query: str, body: bytes) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded", "X-Amz-Meta": "two   blanks "}
    request = AWSRequest(verb, f"{URL}?{query}", headers=headers, data=body)
    botocore.auth.SigV4Auth(key, "ec2", "RegionOne").add_auth(request)
    got = asked(cloud, key, request, _signature(request))
    assert got.status == 200, got
    assert _is_alice(got, alice)
    assert asked(cloud, key, request, _signature(request), body_hash="0" * 64).status == 401
    assert asked(cloud, key, request, _signature(request), host="other.example").status == 401
    cloud.clock.turn(901)
    assert asked(cloud, key, request, _signature(request)).status == 401
    fresh = {"Timestamp": cloud.clock.now().isoformat()}
    assert asked(cloud, key, request, _signature(request), params=fresh).status == 401, "it is not signed"


def test_version_4_in_the_query(cloud: Bed, alice: User, key: Credentials) -> None:
    request = AWSRequest("GET", f"{URL}?Action=DescribeInstances")
    botocore.auth.SigV4QueryAuth(key, "ec2", "RegionOne", expires=60).add_auth(request)
    signature = dict(parse_qsl(urlsplit(request.url).query))["X-Amz-Signature"]
    got = asked(cloud, key, request, signature, headers={"Host": "ec2.example:8788"})
    assert got.status == 200, got
    assert _is_alice(got, alice)
    assert asked(cloud, key, request, signature[::-1]).status == 401


class _S3(botocore.auth.HmacV1Auth):
    """Keeps what it signs, which is what an S3 API sends to identity."""

    signed = ""

    def sign_string(self, string_to_sign: str) -> str:
        self.signed = string_to_sign
        return str(super().sign_string(string_to_sign))


class _S3v4(botocore.auth.S3SigV4Auth):
    signed = ""

    def string_to_sign(self, request: AWSRequest, canonical_request: str) -> str:
        self.signed = super().string_to_sign(request, canonical_request)
        return self.signed


@pytest.mark.parametrize("version", [2, 4])
def test_s3(cloud: Bed, alice: User, key: Credentials, version: int) -> None:
    request = AWSRequest("PUT", "https://s3.example/bucket/a%20key", data=b"content")
    signer = _S3(key) if version == 2 else _S3v4(key, "s3", "RegionOne")
    if version == 4:
        request.context["client_config"] = None
        request.context["signing"] = {}
    signer.add_auth(request)
    text = str(request.headers["Authorization"])
    signature = text.rpartition(":")[2] if version == 2 else text.rpartition("Signature=")[2]
    sent = {
        "access": key.access_key,
        "signature": signature,
        "token": base64.urlsafe_b64encode(signer.signed.encode()).decode(),
    }
    got = cloud.admin.post(f"{V3}/s3tokens", {"credentials": sent})
    assert got.status == 200, got
    assert _is_alice(got, alice)
    other = base64.urlsafe_b64encode(signer.signed.replace("PUT", "GET").encode() + b" ").decode()
    assert cloud.admin.post(f"{V3}/s3tokens", {"credentials": {**sent, "token": other}}).status == 401
    assert cloud.admin.post(f"{V3}/s3tokens", {"credentials": {**sent, "token": "\u00e9"}}).status in (
        400,
        401,
    )


def test_a_key_is_no_more_than_its_user(cloud: Bed, admin: User, alice: User, key: Credentials) -> None:
    assert isinstance(cloud.clock, TurnedClock)
    request = AWSRequest("GET", f"{URL}?Action=DescribeInstances")
    botocore.auth.SigV4Auth(key, "ec2", "RegionOne").add_auth(request)
    assert asked(cloud, key, request, _signature(request)).status == 200
    for bad in ({"params": []}, {"headers": "x"}, {"params": {"X-Amz-Date": "tomorrow"}}):
        assert asked(cloud, key, request, _signature(request), **bad).status in (400, 401)
    assert admin.patch(f"{V3}/users/{alice.id}", {"user": {"enabled": False}}).status == 200
    assert asked(cloud, key, request, _signature(request)).status == 401
