"""What projects share with each other."""

from tests.network.api import V2, change, listed, make, net, remove, show


def share(user, object_type, id, target, expect=201, action="access_as_shared"):
    got = user.post(
        f"{V2}/rbac-policies",
        {
            "rbac_policy": {
                "object_type": object_type,
                "object_id": id,
                "action": action,
                "target_tenant": target,
            }
        },
    )
    assert got.status == expect, got
    return got.json.get("rbac_policy") or got.json["NeutronError"]


def unshare(user, id, expect=204):
    got = user.delete(f"{V2}/rbac-policies/{id}")
    assert got.status == expect, got


def test_a_network_is_shared_with_one_project(cloud, alice, bob, admin):
    network, subnet = net(alice)
    policy = share(alice, "network", network["id"], bob.project_id)
    assert show(bob, "network", network["id"])["shared"] is True
    assert show(alice, "network", network["id"])["shared"] is False
    assert network["id"] in {n["id"] for n in listed(bob, "network")}
    assert subnet["id"] in {s["id"] for s in listed(bob, "subnet")}
    port = make(bob, "port", network_id=network["id"], fixed_ips=[{"subnet_id": subnet["id"]}])
    change(bob, "network", network["id"], expect=403, name="mine")
    assert share(alice, "network", network["id"], bob.project_id, 409)["type"] == "RbacPolicyExists"
    unshare(bob, policy["id"], 404)
    unshare(alice, policy["id"], 409)
    remove(bob, "port", port["id"])
    unshare(alice, policy["id"])
    assert bob.get(f"{V2}/networks/{network['id']}").status == 404


def test_only_admins_share_with_everybody(cloud, alice, bob, admin):
    network, _ = net(alice)
    share(alice, "network", network["id"], "*", 403)
    policy = share(admin, "network", network["id"], "*")
    assert show(bob, "network", network["id"])["shared"] is True
    unshare(admin, policy["id"])
    assert bob.get(f"{V2}/networks/{network['id']}").status == 404
    open_to_all, _ = net(admin, shared=True)
    found = admin.get(f"{V2}/rbac-policies?object_id={open_to_all['id']}").json["rbac_policies"]
    assert [(p["target_tenant"], p["action"]) for p in found] == [("*", "access_as_shared")]


def test_a_user_may_say_what_would_be_so_anyway(cloud, alice):
    assert make(alice, "address_scope", name="s", ip_version=4, shared=False)["shared"] is False
    pool = make(alice, "subnetpool", name="p", prefixes=["10.0.0.0/8"], shared=False, is_default=False)
    assert (pool["shared"], pool["is_default"]) == (False, False)
    make(alice, "address_scope", name="s", ip_version=4, shared=True, expect=403)


def test_groups_and_pools_are_shared(cloud, alice, bob):
    group = make(alice, "security_group", name="web")
    network, _ = net(bob)
    make(bob, "port", network_id=network["id"], security_groups=[group["id"]], expect=404)
    policy = share(alice, "security_group", group["id"], bob.project_id)
    port = make(bob, "port", network_id=network["id"], security_groups=[group["id"]])
    assert show(bob, "security_group", group["id"])["shared"] is True
    remove(bob, "security_group", group["id"], expect=403)
    make(bob, "security_group_rule", security_group_id=group["id"], direction="ingress", expect=403)
    unshare(alice, policy["id"], 409)
    remove(bob, "port", port["id"])
    unshare(alice, policy["id"])
    pool = make(alice, "subnetpool", name="p", prefixes=["10.40.0.0/16"], default_prefixlen=24)
    other = make(bob, "network")
    make(bob, "subnet", network_id=other["id"], ip_version=4, subnetpool_id=pool["id"], expect=404)
    share(alice, "subnetpool", pool["id"], bob.project_id)
    assert (
        make(bob, "subnet", network_id=other["id"], ip_version=4, subnetpool_id=pool["id"])["cidr"]
        == "10.40.0.0/24"
    )


def test_what_can_not_be_shared_is_refused(cloud, alice, bob):
    network, _ = net(alice)
    share(bob, "network", network["id"], bob.project_id, 404)
    share(alice, "port", network["id"], bob.project_id, 400)
    share(alice, "network", network["id"], bob.project_id, 400, action="access_as_king")
    assert alice.post(f"{V2}/rbac-policies", {"rbac_policy": {"object_type": "network"}}).status == 400
