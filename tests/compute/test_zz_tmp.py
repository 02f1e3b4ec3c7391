from tests.compute.bed import *
def test_a(cloud, alice):
    n=network(alice)
    s=boot(cloud, alice, networks=[{"uuid":n}])
    print(s)
    assert s["status"]=="ACTIVE", s
