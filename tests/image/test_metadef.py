"""Metadata definitions as clients see them."""

from typing import Any

from stackling.image import definitions

ROOT = "/image/v2/metadefs/namespaces"
SCHEMA = {"title": "Bus", "type": "string", "enum": ["virtio", "scsi"]}


def make(user: Any, name: str = "NS", **more: Any) -> dict[str, Any]:
    made = user.post(ROOT, {"namespace": name, **more})
    assert made.status == 201, made
    return made.json


def names(answer: Any) -> list[str]:
    assert answer.status == 200, answer
    return [n["namespace"] for n in answer.json["namespaces"]]


def test_standard_definitions_are_there(cloud: Any, alice: Any, admin: Any) -> None:
    types = [t["name"] for t in alice.get("/image/v2/metadefs/resource_types").json["resource_types"]]
    assert types == sorted(definitions.RESOURCE_TYPES)
    got = alice.get(ROOT)
    assert sorted(names(got)) == sorted(s.name for s in definitions.STANDARD)
    one = alice.get(f"{ROOT}/OS::Compute::VirtCPUTopology").json
    assert (one["visibility"], one["protected"]) == ("public", True)
    assert one["properties"]["cpu_cores"]["type"] == "integer"
    about = {a["name"]: a.get("prefix") for a in one["resource_type_associations"]}
    assert about == {"OS::Glance::Image": "hw_", "OS::Cinder::Volume": "hw_", "OS::Nova::Flavor": "hw:"}
    flavors = alice.get(f"{ROOT}/OS::Compute::VirtCPUTopology?resource_type=OS::Nova::Flavor").json
    assert "hw:cpu_cores" in flavors["properties"]
    assert alice.get(f"{ROOT}/OS::Compute::VirtCPUTopology?resource_type=OS::Nova::Server").status == 404
    assert admin.delete(f"{ROOT}/OS::Compute::VirtCPUTopology").status == 403


def test_what_an_admin_deletes_does_not_come_back(cloud: Any, admin: Any) -> None:
    one = admin.get(f"{ROOT}/OS::Compute::Watchdog").json
    admin.put(f"{ROOT}/OS::Compute::Watchdog", {"namespace": one["namespace"], "protected": False})
    assert admin.delete(f"{ROOT}/OS::Compute::Watchdog").status == 204
    with cloud.db.begin() as tx:
        definitions.load(tx, cloud.cloud)
    assert admin.get(f"{ROOT}/OS::Compute::Watchdog").status == 404


def test_life_of_a_namespace(cloud: Any, admin: Any) -> None:
    made = admin.post(
        ROOT, {"namespace": "My NS", "display_name": "Mine", "visibility": "public", "protected": True}
    )
    assert made.status == 201
    assert made.headers["location"].endswith("/image/v2/metadefs/namespaces/My%20NS")
    got = admin.get(f"{ROOT}/My NS").json
    assert got == made.json
    assert (got["owner"], got["visibility"], got["protected"]) == (admin.project_id, "public", True)
    assert (got["schema"], "description" in got) == ("/v2/schemas/metadefs/namespace", False)
    assert admin.post(ROOT, {"namespace": "My NS"}).status == 409
    assert admin.delete(f"{ROOT}/My NS").status == 403
    cloud.clock.turn(5)
    changed = admin.put(f"{ROOT}/My NS", {"namespace": "Yours", "description": "new"})
    assert changed.status == 200
    assert (changed.json["namespace"], changed.json["visibility"], changed.json["protected"]) == (
        "Yours",
        "private",
        False,
    )
    assert changed.json["updated_at"] > changed.json["created_at"]
    assert admin.get(f"{ROOT}/My NS").status == 404
    make(admin, "Other")
    assert admin.put(f"{ROOT}/Yours", {"namespace": "Other"}).status == 409
    assert admin.delete(f"{ROOT}/Yours").status == 204
    for answer in (
        admin.get(f"{ROOT}/Yours"),
        admin.put(f"{ROOT}/Yours", {"namespace": "x"}),
        admin.delete(f"{ROOT}/Yours"),
    ):
        assert answer.status == 404


def test_a_namespace_with_all_it_defines(admin: Any) -> None:
    whole = {
        "resource_type_associations": [{"name": "OS::Glance::Image", "prefix": "p_"}, {"name": "My::Thing"}],
        "properties": {"bus": SCHEMA},
        "objects": [
            {
                "name": "o",
                "required": ["x"],
                "properties": {"x": {"title": "X", "type": "integer", "minimum": 0}},
            }
        ],
        "tags": [{"name": "t1"}, {"name": "t2"}],
    }
    make(admin, "NS", **whole)
    got = admin.get(f"{ROOT}/NS").json
    assert got["properties"] == {"bus": {**SCHEMA, "name": "bus"}}
    assert [o["name"] for o in got["objects"]] == ["o"]
    assert sorted(t["name"] for t in got["tags"]) == ["t1", "t2"]
    assert [a["name"] for a in got["resource_type_associations"]] == ["My::Thing", "OS::Glance::Image"]
    known = [t["name"] for t in admin.get("/image/v2/metadefs/resource_types").json["resource_types"]]
    assert "My::Thing" in known
    prefixed = admin.get(f"{ROOT}/NS?resource_type=OS::Glance::Image").json
    assert list(prefixed["properties"]) == ["p_bus"]
    assert admin.get(f"{ROOT}/NS/properties/p_bus?resource_type=OS::Glance::Image").json["name"] == "bus"
    assert admin.get(f"{ROOT}/NS/properties/bus?resource_type=OS::Glance::Image").status == 404
    assert admin.delete(f"{ROOT}/NS").status == 204
    make(admin, "NS")
    again = admin.get(f"{ROOT}/NS").json
    assert not {"properties", "objects", "tags", "resource_type_associations"} & set(again)
    # Half a namespace is none.
    assert admin.post(ROOT, {"namespace": "Half", "tags": [{"name": "t"}, {"name": "t"}]}).status == 409
    assert admin.get(f"{ROOT}/Half").status == 404


def test_who_sees_and_who_changes(alice: Any, bob: Any, reader: Any, admin: Any) -> None:
    make(admin, "Public", visibility="public")
    make(admin, "Hidden", tags=[{"name": "t"}])
    make(admin, "Blue", owner=alice.project_id)
    assert "Public" in names(bob.get(ROOT))
    assert "Blue" in names(reader.get(ROOT))
    for user, name in ((bob, "Hidden"), (bob, "Blue"), (alice, "Hidden")):
        assert name not in names(user.get(ROOT))
        for path in ("", "/objects", "/properties", "/tags", "/resource_types", "/tags/t"):
            assert user.get(f"{ROOT}/{name}{path}").status == 404
        assert user.delete(f"{ROOT}/{name}").status == 404
    for user in (alice, reader, bob):
        assert user.post(ROOT, {"namespace": "Mine"}).status == 403
        assert user.delete(f"{ROOT}/Public").status == 403
        assert user.put(f"{ROOT}/Public", {"namespace": "Public"}).status == 403
        for path, body in (
            ("objects", {"name": "x"}),
            ("properties", {"name": "x", **SCHEMA}),
            ("tags", {"tags": [{"name": "x"}]}),
            ("tags/x", None),
            ("resource_types", {"name": "x"}),
        ):
            assert user.post(f"{ROOT}/Public/{path}", body).status == 403, path
    assert alice.get(f"{ROOT}/Blue").status == 200


def test_lists_of_namespaces(cloud: Any, admin: Any, alice: Any) -> None:
    for name, more in (
        ("a", {"visibility": "public", "resource_type_associations": [{"name": "My::A"}]}),
        ("b", {"resource_type_associations": [{"name": "My::B"}, {"name": "My::A"}]}),
        ("c", {"visibility": "public"}),
    ):
        cloud.clock.turn(1)
        make(admin, name, **more)
    assert names(admin.get(f"{ROOT}?limit=3")) == ["c", "b", "a"]
    assert names(admin.get(f"{ROOT}?resource_types=My::A&sort_key=namespace&sort_dir=asc")) == ["a", "b"]
    assert names(admin.get(f"{ROOT}?resource_types=My::B,My::C")) == ["b"]
    assert "b" not in names(admin.get(f"{ROOT}?visibility=public"))
    assert names(admin.get(f"{ROOT}?visibility=private")) == ["b"]
    page = admin.get(f"{ROOT}?limit=2").json
    assert (page["first"], page["schema"]) == (
        "/v2/metadefs/namespaces?limit=2",
        "/v2/schemas/metadefs/namespaces",
    )
    assert names(admin.get("/image" + page["next"]))[0] == "a"
    assert page["namespaces"][1]["resource_type_associations"][0]["name"] == "My::A"
    for bad in ("visibility=shared", "sort_key=password", "sort_dir=up", "limit=-1", "limit=x"):
        assert admin.get(f"{ROOT}?{bad}").status == 400, bad
    assert admin.get(f"{ROOT}?marker=nobody").status == 404
    assert names(admin.get(f"{ROOT}?limit=0")) == []


def test_objects(cloud: Any, admin: Any, alice: Any) -> None:
    make(admin, visibility="public")
    path = f"{ROOT}/NS/objects"
    made = admin.post(
        path, {"name": "o1", "description": "d", "properties": {"bus": SCHEMA}, "required": ["bus"]}
    )
    assert made.status == 201
    assert made.headers["location"].endswith("/objects/o1")
    assert made.json["properties"] == {"bus": SCHEMA}
    assert (made.json["self"], made.json["schema"]) == (
        "/v2/metadefs/namespaces/NS/objects/o1",
        "/v2/schemas/metadefs/object",
    )
    assert alice.get(f"{path}/o1").json == made.json
    assert admin.post(path, {"name": "o1"}).status == 409
    cloud.clock.turn(1)
    admin.post(path, {"name": "o2"})
    got = alice.get(path).json
    assert [o["name"] for o in got["objects"]] == ["o2", "o1"]
    assert got["schema"] == "/v2/schemas/metadefs/objects"
    page = alice.get(f"{path}?limit=1").json
    assert [o["name"] for o in alice.get("/image" + page["next"]).json["objects"]] == ["o1"]
    assert alice.get(f"{path}?marker=zzz").status == 404
    assert admin.put(f"{path}/o1", {"name": "o2"}).status == 409
    changed = admin.put(f"{path}/o1", {"name": "o3"})
    assert (changed.status, changed.json["name"], changed.json["properties"]) == (200, "o3", {})
    assert admin.get(f"{path}/o1").status == 404
    assert admin.delete(f"{path}/o3").status == 204
    assert admin.delete(f"{path}/o3").status == 404
    assert admin.delete(path).status == 204
    assert admin.get(path).json["objects"] == []


def test_properties(admin: Any, alice: Any) -> None:
    make(admin, visibility="public")
    path = f"{ROOT}/NS/properties"
    full = {
        **SCHEMA,
        "name": "hw:bus",
        "description": "d",
        "operators": ["<or>"],
        "default": "virtio",
        "readonly": False,
        "minLength": 1,
        "maxLength": 9,
        "items": {"type": "string"},
        "uniqueItems": True,
        "additionalItems": False,
    }
    made = admin.post(path, full)
    assert (made.status, made.json) == (201, full)
    assert alice.get(f"{path}/hw:bus").json == full
    assert alice.get(path).json == {"properties": {"hw:bus": full}}
    assert admin.post(path, full).status == 409
    changed = admin.put(f"{path}/hw:bus", {"name": "bus", "title": "T", "type": "number", "minimum": -1.5})
    assert (changed.status, changed.json) == (
        200,
        {"name": "bus", "title": "T", "type": "number", "minimum": -1.5},
    )
    assert admin.delete(f"{path}/bus").status == 204
    assert admin.get(f"{path}/bus").status == 404
    assert admin.delete(path).status == 204


def test_tags(cloud: Any, admin: Any, alice: Any) -> None:
    make(admin, visibility="public")
    path = f"{ROOT}/NS/tags"
    made = admin.post(path, {"tags": [{"name": "a"}, {"name": "b"}]})
    assert (made.status, made.json) == (201, {"tags": [{"name": "a"}, {"name": "b"}]})
    cloud.clock.turn(1)
    assert admin.post(path, {"tags": [{"name": "c"}]}, headers={"X-Openstack-Append": "True"}).status == 201
    assert [t["name"] for t in alice.get(f"{path}?sort_key=name&sort_dir=asc").json["tags"]] == [
        "a",
        "b",
        "c",
    ]
    assert admin.post(path, {"tags": [{"name": "c"}]}, headers={"X-Openstack-Append": "True"}).status == 409
    assert admin.post(path, {"tags": [{"name": "x"}, {"name": "x"}]}).status == 409
    assert admin.post(path, {"tags": [{"name": "d"}]}).status == 201
    assert [t["name"] for t in alice.get(path).json["tags"]] == ["d"]
    one = admin.post(f"{path}/e")
    assert (one.status, one.json["name"]) == (201, "e")
    assert admin.post(f"{path}/e").status == 409
    assert admin.post(f"{path}/{'x' * 81}").status == 400
    assert alice.get(f"{path}/e").json == one.json
    assert admin.put(f"{path}/e", {"name": "d"}).status == 409
    assert admin.put(f"{path}/e", {"name": "f"}).json["name"] == "f"
    assert admin.delete(f"{path}/f").status == 204
    assert admin.delete(f"{path}/f").status == 404
    assert admin.delete(path).status == 204
    assert alice.get(path).json["tags"] == []


def test_associations(admin: Any, alice: Any) -> None:
    make(admin, visibility="public")
    path = f"{ROOT}/NS/resource_types"
    made = admin.post(path, {"name": "OS::Nova::Flavor", "prefix": "hw:"})
    assert made.status == 201
    assert (made.json["name"], made.json["prefix"], "properties_target" in made.json) == (
        "OS::Nova::Flavor",
        "hw:",
        False,
    )
    assert admin.post(path, {"name": "OS::Nova::Flavor"}).status == 409
    assert [a["name"] for a in alice.get(path).json["resource_type_associations"]] == ["OS::Nova::Flavor"]
    assert alice.delete(f"{path}/OS::Nova::Flavor").status == 403
    assert admin.delete(f"{path}/OS::Nova::Flavor").status == 204
    assert admin.delete(f"{path}/OS::Nova::Flavor").status == 404


def test_nothing_is_taken_from_a_protected_namespace(admin: Any) -> None:
    make(
        admin,
        protected=True,
        objects=[{"name": "o"}],
        properties={"p": SCHEMA},
        tags=[{"name": "t"}],
        resource_type_associations=[{"name": "R"}],
    )
    for path in (
        "",
        "/objects/o",
        "/objects",
        "/properties/p",
        "/properties",
        "/tags/t",
        "/tags",
        "/resource_types/R",
    ):
        assert admin.delete(f"{ROOT}/NS{path}").status == 403, path
    assert admin.post(f"{ROOT}/NS/tags", {"tags": []}).status == 403
    assert admin.post(f"{ROOT}/NS/tags/t2").status == 201


BAD = (
    ("", {}, 400),
    ("", {"namespace": ""}, 400),
    ("", {"namespace": "x" * 81}, 400),
    ("", {"namespace": "a/b"}, 400),
    ("", {"namespace": "x", "visibility": "shared"}, 400),
    ("", {"namespace": "x", "protected": "yes"}, 400),
    ("", {"namespace": "x", "colour": "blue"}, 400),
    ("", {"namespace": "x", "created_at": "now"}, 403),
    ("", {"namespace": "x", "properties": {"p": {"title": "no type"}}}, 400),
    ("/NS/objects", {"description": "no name"}, 400),
    ("/NS/objects", {"name": "x", "self": "/"}, 403),
    ("/NS/properties", {"name": "x", "type": "string"}, 400),
    ("/NS/properties", {"name": "x", "title": "x", "type": "colour"}, 400),
    ("/NS/properties", {"name": "x", "title": "x", "type": "string", "minLength": -1}, 400),
    ("/NS/properties", {"name": "x", "title": "x", "type": "string", "minLength": 5, "maxLength": 1}, 400),
    ("/NS/tags", {"tags": "x"}, 400),
    ("/NS/tags", {"tags": [{"name": "x" * 81}]}, 400),
    ("/NS/resource_types", {"prefix": "x"}, 400),
    ("/nowhere/objects", {"name": "x"}, 404),
    ("/nowhere/properties", {"name": "x", **SCHEMA}, 404),
    ("/nowhere/tags", {"tags": []}, 404),
    ("/nowhere/resource_types", {"name": "x"}, 404),
)


def test_bad_input(admin: Any) -> None:
    make(admin)
    for path, body, status in BAD:
        got = admin.post(ROOT + path, body)
        assert got.status == status, (path, body, got)
        assert admin.post(ROOT + path, [body]).status == 400 or status == 404
        assert admin.post(ROOT + path, data=b"{").status == 400


SCHEMAS = {
    "namespace": "namespace",
    "namespaces": "namespaces",
    "object": "object",
    "objects": "objects",
    "property": "property",
    "properties": "properties",
    "tag": "tag",
    "tags": "tags",
    "resource_type": "resource_type_association",
    "resource_types": "resource_type_associations",
}


def test_schemas(reader: Any) -> None:
    for schema, name in SCHEMAS.items():
        got = reader.get(f"/image/v2/schemas/metadefs/{schema}")
        assert (got.status, got.json["name"]) == (200, name)
