"""Who may read and write: roles, access lists, signatures."""

import base64
import hashlib
import hmac

from tests.conftest import Bed, User

from .conftest import Account


def test_roles_in_the_project_decide(
    cloud: Bed, account: Account, reader: User, bob: User, admin: User
) -> None:
    account("PUT", "c/o", b"x")
    rita = account.by(reader)
    assert [rita(m, p).status for m, p in (("GET", ""), ("GET", "c"), ("GET", "c/o"), ("HEAD", "c/o"))] == [
        200
    ] * 4
    for method, path in (
        ("PUT", "d"),
        ("PUT", "c/p"),
        ("POST", "c"),
        ("POST", ""),
        ("DELETE", "c/o"),
        ("DELETE", "c"),
    ):
        for user, status in ((reader, 403), (bob, 403), (cloud.nobody, 401)):
            assert account.by(user)(method, path).status == status, (method, path, status)
    for path in ("", "c", "c/o", "nowhere", "nowhere/o"):
        assert account.by(bob)("GET", path).status == 403
        refused = account.by(cloud.nobody)("GET", path)
        assert (refused.status, refused.text[:6]) == (401, "<html>")
        assert "Keystone uri" in refused.headers["www-authenticate"]
    assert account.by(admin)("PUT", "c/p", b"x").status == 201
    assert Account(bob)("PUT", f"/object-store/v1/{bob.project_id}/c").status == 403, (
        "no account without its prefix"
    )


def test_a_container_can_be_read_by_everybody(cloud: Bed, account: Account, bob: User) -> None:
    account("PUT", "c/o", b"x")
    anybody = account.by(cloud.nobody)
    assert account("POST", "c", X_Container_Read=".r:*").status == 204
    assert [anybody("GET", "c/o").status, anybody("GET", "c").status] == [200, 401]
    assert account.by(bob)("GET", "c/o").status == 200
    assert anybody("PUT", "c/o", b"y").status == 401
    account("POST", "c", X_Container_Read=".r:*,.rlistings")
    got = anybody("GET", "c")
    assert (got.status, got.text) == (200, "o\n")
    assert "x-container-read" not in got.headers
    assert account("HEAD", "c").headers["x-container-read"] == ".r:*,.rlistings"
    account("POST", "c", X_Remove_Container_Read="x")
    assert anybody("GET", "c/o").status == 401


def test_pages_of_some_sites_may_read(cloud: Bed, account: Account) -> None:
    account("PUT", "c/o", b"x")
    anybody = account.by(cloud.nobody)
    account("POST", "c", X_Container_Read=".referrer: *.example.com , .r:-bad.example.com")
    for referer, status in (
        ("http://www.example.com/page", 200),
        ("http://bad.example.com/page", 401),
        ("http://example.org", 401),
        ("http://[", 401),
        ("", 401),
    ):
        assert anybody("GET", "c/o", Referer=referer).status == status, referer


def test_users_and_projects_are_named_in_lists(cloud: Bed, account: Account, bob: User) -> None:
    account("PUT", "c/o", b"x")
    theirs = account.by(bob)
    for entry in (
        f"{bob.project_id}:{bob.id}",
        f"*:{bob.id}",
        f"{bob.project_id}:*",
        "green:bob",
        "*:*",
        "member",
    ):
        account("POST", "c", X_Container_Read=entry, X_Container_Write="")
        assert [theirs("GET", "c/o").status, theirs("GET", "c").status] == [200, 200], entry
        assert theirs("PUT", "c/p", b"y").status == 403
        account("POST", "c", X_Container_Read="", X_Container_Write=f"other:one, {entry}")
        assert [theirs("GET", "c/o").status, theirs("PUT", "c/p", b"y").status] == [403, 201], entry
        assert theirs("DELETE", "c/p").status == 204
        assert theirs("POST", "c").status == 403
    account("POST", "c", X_Container_Write=f"green:{account.user.id}")
    assert theirs("PUT", "c/p", b"y").status == 403


def test_lists_that_say_nothing_are_refused(account: Account) -> None:
    for header, value in (
        ("X_Container_Read", ".unknown:*"),
        ("X_Container_Read", ".r:"),
        ("X_Container_Write", ".r:*"),
        ("X_Container_Meta_Quota_Bytes", "many"),
        ("X_Container_Meta_Quota_Count", "-1"),
        ("X_Container_Sync_To", "http://elsewhere/v1/a/c"),
        ("X_Versions_Location", "a/b"),
    ):
        assert account("POST", "c", **{header: value}).status == 400, header
    assert account("PUT", "d", X_Storage_Policy="gold").status == 400


def test_keys_are_not_shown_to_readers(cloud: Bed, account: Account, reader: User) -> None:
    account("POST", "", X_Account_Meta_Temp_URL_Key="secret", X_Account_Meta_A="b")
    account("POST", "c", X_Container_Meta_Temp_URL_Key="secret", X_Container_Meta_A="b")
    for path, kind in (("", "account"), ("c", "container")):
        assert account("HEAD", path).headers[f"x-{kind}-meta-temp-url-key"] == "secret"
        told = account.by(reader)("HEAD", path).headers
        assert (told.get(f"x-{kind}-meta-temp-url-key"), told[f"x-{kind}-meta-a"]) == (None, "b")


def _signed(
    cloud: Bed, path: str, method: str = "GET", key: str = "key", digest: str = "sha256", **more: str
) -> str:
    expires = (
        int(more.pop("expires", 0)) or int(float(cloud.clock.now().replace(tzinfo=None).timestamp())) + 10**6
    )
    front = f"ip={more['temp_url_ip_range']}\n" if "temp_url_ip_range" in more else ""
    what = more.pop("signs", path)
    text = f"{front}{method}\n{expires}\n{what}"
    made = hmac.new(key.encode(), text.encode(), digest).digest()
    sig = made.hex()
    if more.pop("encoded", ""):
        sig = f"{digest}:" + base64.urlsafe_b64encode(made).decode().rstrip("=")
    rest = "".join(f"&{n}={v}" for n, v in more.items())
    return f"{path}?temp_url_sig={sig}&temp_url_expires={expires}{rest}"


def test_temporary_urls(cloud: Bed, account: Account) -> None:
    account("PUT", "c/dir/o", b"hello", X_Object_Meta_A="b")
    account("POST", "", X_Account_Meta_Temp_URL_Key="key", X_Account_Meta_Temp_URL_Key_2="key2")
    anybody, o = account.by(cloud.nobody), f"{account.root}/c/dir/o"
    short = o.removeprefix("/object-store")
    for url in (
        _signed(cloud, o),
        _signed(cloud, o, signs=short),
        _signed(cloud, o, key="key2", digest="sha1"),
        _signed(cloud, o, digest="sha512"),
        _signed(cloud, o, encoded="yes"),
        _signed(cloud, o, signs=f"prefix:{account.root}/c/di", temp_url_prefix="di"),
        _signed(cloud, o, temp_url_ip_range="127.0.0.0/8"),
    ):
        got = anybody("GET", url)
        assert (got.status, got.text) == (200, "hello"), url
        assert "x-object-meta-a" not in got.headers
    assert got.headers["content-disposition"] == "attachment; filename=\"o\"; filename*=UTF-8''o"
    assert anybody("HEAD", _signed(cloud, o)).status == 200
    assert anybody("GET", _signed(cloud, o, filename="my%20file")).headers["content-disposition"] == (
        "attachment; filename=\"my file\"; filename*=UTF-8''my%20file"
    )
    assert anybody("GET", _signed(cloud, o, inline="")).headers["content-disposition"] == "inline"
    for method, url in (
        ("GET", _signed(cloud, o, key="wrong")),
        ("GET", _signed(cloud, o, expires="1000")),
        ("GET", _signed(cloud, o).replace("dir/o", "dir/p")),
        ("PUT", _signed(cloud, o)),
        ("GET", _signed(cloud, o, temp_url_ip_range="10.0.0.0/8")),
        ("GET", _signed(cloud, o, signs=f"prefix:{account.root}/c/x", temp_url_prefix="x")),
        ("GET", f"{o}?temp_url_sig=zz&temp_url_expires=99999999999"),
        ("GET", f"{o}?temp_url_expires=99999999999"),
    ):
        assert anybody(method, url).status == 401, url
        assert account(method, url).status == 401, "a wrong signature counts, whoever sends it"
    assert anybody("PUT", _signed(cloud, f"{account.root}/c/new", "PUT"), b"x").status == 201
    assert (
        anybody("PUT", _signed(cloud, f"{account.root}/c/new", "PUT"), b"", X_Object_Manifest="c/x").status
        == 400
    )
    assert anybody("DELETE", _signed(cloud, o, "DELETE")).status == 204


def test_a_containers_key_opens_only_the_container(cloud: Bed, account: Account) -> None:
    account("PUT", "d")
    account("POST", "c", X_Container_Meta_Temp_URL_Key="key")
    for name in ("c", "d"):
        account("PUT", f"{name}/o", b"x")
    anybody = account.by(cloud.nobody)
    assert anybody("GET", _signed(cloud, f"{account.root}/c/o")).status == 200
    assert anybody("GET", _signed(cloud, f"{account.root}/d/o")).status == 401
    account("PUT", "c/link", X_Symlink_Target="d/o")
    assert anybody("GET", _signed(cloud, f"{account.root}/c/link")).status == 401


def _form(cloud: Bed, path: str, fields: dict[str, str], data: str = "hello") -> tuple[bytes, str]:
    whole = {"redirect": "", "max_file_size": "100", "max_file_count": "1", "expires": "9999999999"} | fields
    text = "\n".join([path, *(whole[n] for n in ("redirect", "max_file_size", "max_file_count", "expires"))])
    whole.setdefault("signature", hmac.new(b"key", text.encode(), hashlib.sha256).hexdigest())
    parts = [f'--B\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n' for n, v in whole.items()]
    parts.append(
        '--B\r\nContent-Disposition: form-data; name="f"; filename="new.txt"\r\nContent-Type: text/plain\r\n\r\n'
        f"{data}\r\n--B--\r\n"
    )
    return "".join(parts).encode(), "multipart/form-data; boundary=B"


def test_web_forms_upload(cloud: Bed, account: Account) -> None:
    account("POST", "", X_Account_Meta_Temp_URL_Key="key")
    anybody, path = account.by(cloud.nobody), f"{account.root}/c/up/"

    def post(fields: dict[str, str], data: str = "hello") -> tuple[int, str]:
        body, kind = _form(cloud, path, fields, data)
        got = anybody("POST", "c/up/", body, Content_Type=kind)
        return got.status, got.headers.get("location", "")

    assert post({}) == (201, "")
    got = account("GET", "c/up/new.txt")
    assert (got.text, got.headers["content-type"]) == ("hello", "text/plain")
    assert post({"signature": "0" * 64})[0] == 401
    assert post({"expires": "1000"})[0] == 401
    assert post({}, "x" * 101)[0] == 413
    assert post({"max_file_count": "0"})[0] == 400
    assert post({"redirect": "https://site/done"}) == (303, "https://site/done?status=201&message=")
    assert account.stats("c") == (1, 5)
    assert anybody("POST", "c/up/", b"nonsense", Content_Type="multipart/form-data; boundary=B").status == 400


def test_origins_of_pages(cloud: Bed, account: Account) -> None:
    account("POST", "c", X_Container_Meta_Access_Control_Allow_Origin="https://one https://two")
    account("PUT", "c/o", b"x", X_Object_Meta_A="b")
    anybody = account.by(cloud.nobody)
    asked = {"Origin": "https://two", "Access_Control_Request_Method": "PUT"}
    allowed = anybody("OPTIONS", "c/o", **asked)
    assert (allowed.status, allowed.headers["access-control-allow-origin"]) == (200, "https://two")
    assert "PUT" in allowed.headers["access-control-allow-methods"]
    assert anybody("OPTIONS", "c/o", **{**asked, "Origin": "https://evil"}).status == 401
    assert anybody("OPTIONS", "c/o").status == 200
    got = account("GET", "c/o", Origin="https://one")
    assert got.headers["access-control-allow-origin"] == "https://one"
    assert "x-object-meta-a" in got.headers["access-control-expose-headers"]
    assert "access-control-allow-origin" not in account("GET", "c/o", Origin="https://evil").headers
    refused = anybody("GET", "c/o", Origin="https://one")
    assert (refused.status, refused.headers["access-control-allow-origin"]) == (401, "https://one")


def test_an_application_credential_with_rules_makes_only_the_calls_they_name(
    cloud: Bed, account: Account
) -> None:
    alice = account.user
    rules = [{"service": "object-store", "method": "GET", "path": "/v1/*/c/**"}]
    made = alice.post(
        f"/identity/v3/users/{alice.id}/application_credentials",
        {"application_credential": {"name": "a", "secret": "secret", "access_rules": rules}},
    )
    assert made.status == 201, made
    account("PUT", "c/o", b"x")
    credential = {"id": made.json["application_credential"]["id"], "secret": "secret"}
    got = cloud.nobody.post(
        "/identity/v3/auth/tokens",
        {"auth": {"identity": {"methods": ["application_credential"], "application_credential": credential}}},
    )
    limited = account.by(User(cloud, got.headers["x-subject-token"], project_id=alice.project_id))
    assert [limited("GET", "c/o").status, limited("GET", "c").status, limited("PUT", "c/p", b"x").status] == [
        200,
        401,
        401,
    ]
