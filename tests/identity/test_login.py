def test_users_log_in(cloud, admin, alice, bob, reader):
    assert alice.project_id == reader.project_id != bob.project_id
    assert admin.get("/identity/v3/users").status == 200
    assert alice.get("/identity/v3/users").status == 403
    shown = alice.get("/identity/v3/auth/tokens", headers={"X-Subject-Token": alice.token})
    assert shown.status == 200
    assert [r["name"] for r in shown.json["token"]["roles"]] == ["member", "reader"]
