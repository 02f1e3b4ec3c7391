"""The suite of all hypervisors on the fake one, and on the same through HTTPS; libvirt's run is in tests/host."""

import ssl
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from stackling.base.ca import CertificateAuthority, client_context
from stackling.base.rpc import Transport
from stackling.compute.driver import (
    DeviceBusy,
    Disk,
    Domain,
    DomainFailed,
    GuestData,
    HostUnavailable,
    Hypervisor,
    Nic,
    NotReady,
    Power,
    Stopped,
)
from stackling.compute.drivers.fake import FakeHypervisor
from stackling.compute.drivers.remote import INTERFACE, remote_hypervisor
from stackling.image.cache import ImageRef
from stackling.node.server import NodeServer
from stackling.volume.driver import Connection
from tests.compute.hypervisor_suite import HypervisorSuite, Rig


class FakeRig:
    def __init__(self, fake: FakeHypervisor, hypervisor: Hypervisor) -> None:
        self.fake, self.hypervisor = fake, hypervisor

    def domain(self) -> Domain:
        data = GuestData(meta_data={"uuid": "x", "list": [1, None, "é"]}, user_data=bytes(range(256)))
        return Domain(id=str(uuid.uuid4()), name="web <1>", vcpus=1, memory_mib=128, guest_data=data)

    def disk(self, device: str) -> Disk:
        return Disk(volume_id=str(uuid.uuid4()), connection=Connection(kind="none"), device=device)

    def nic(self) -> Nic:
        return Nic(port_id=str(uuid.uuid4()), mac="fa:16:3e:00:00:01", network_id=str(uuid.uuid4()))

    def booted(self, id: str) -> None:
        assert self.fake.power(id) is Power.ON

    def die(self, id: str) -> None:
        self.fake.die()
        self.fake.boot()


class TestFake(HypervisorSuite):
    @pytest.fixture
    def rig(self) -> Rig:
        fake = FakeHypervisor("n1")
        return FakeRig(fake, fake)


class TestRemote(HypervisorSuite):
    @pytest.fixture
    def rig(self, tmp_path: Path) -> Iterator[Rig]:
        fake = FakeHypervisor("n1")
        authority = CertificateAuthority(tmp_path)
        node = authority.issue("n1", ["127.0.0.1"], ["node"])
        control = authority.issue("control", [], ["control"])
        server = NodeServer("127.0.0.1", 0, node, {INTERFACE: fake})
        server.start()
        yield FakeRig(fake, remote_hypervisor(Transport(*server.address, client_context(control))))
        server.stop()

    def test_errors_keep_their_class(self, rig: FakeRig) -> None:
        rig.fake.fail_next("ensure", "no space", DomainFailed)
        rig.fake.fail_next("ensure", "not yet", NotReady)
        rig.fake.fail_next("ensure", "held", DeviceBusy)
        domain = rig.domain()
        for kind, words in ((DomainFailed, "no space"), (NotReady, "not yet"), (DeviceBusy, "held")):
            with pytest.raises(kind, match=words):
                rig.hypervisor.ensure(domain)
        rig.fake.fail_next("power", "a bug", ZeroDivisionError)
        with pytest.raises(HostUnavailable, match="a bug"):
            rig.hypervisor.power(domain.id)

    def test_the_description_arrives_whole(self, rig: FakeRig) -> None:
        domain = rig.domain()
        rig.hypervisor.ensure(domain)
        assert rig.fake.domains == {domain.id: domain}

    def test_many_threads_share_it(self, rig: FakeRig) -> None:
        failed = []

        def work() -> None:
            for _ in range(20):
                domain = rig.domain()
                rig.hypervisor.ensure(domain)
                if rig.hypervisor.power(domain.id) is not Power.ON:
                    failed.append(domain.id)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed
        assert len(rig.fake.domains) == 160


class TestRemoteTrouble:
    @pytest.fixture
    def authority(self, tmp_path: Path) -> CertificateAuthority:
        return CertificateAuthority(tmp_path)

    @pytest.fixture
    def server(self, authority: CertificateAuthority) -> Iterator[NodeServer]:
        server = NodeServer(
            "127.0.0.1", 0, authority.issue("n1", ["127.0.0.1"], ["node"]), {INTERFACE: FakeHypervisor()}
        )
        server.start()
        yield server
        server.stop()

    def test_only_the_control_plane_may_call(
        self, authority: CertificateAuthority, server: NodeServer
    ) -> None:
        other = authority.issue("n2", ["127.0.0.1"], ["node"])
        with pytest.raises(HostUnavailable, match="role control"):
            remote_hypervisor(Transport(*server.address, client_context(other))).info()

    def test_another_authority_is_refused(
        self, authority: CertificateAuthority, server: NodeServer, tmp_path: Path
    ) -> None:
        stranger = CertificateAuthority(tmp_path / "other").issue("control", [], ["control"])
        context = client_context(stranger)
        context.load_verify_locations(authority.certificate)
        with pytest.raises(HostUnavailable):
            remote_hypervisor(Transport(*server.address, context)).info()

    def test_no_certificate_is_refused(self, authority: CertificateAuthority, server: NodeServer) -> None:
        context = ssl.create_default_context(cafile=str(authority.certificate))
        with pytest.raises(HostUnavailable):
            remote_hypervisor(Transport(*server.address, context)).info()

    def test_a_server_that_is_no_node_is_not_believed(self, authority: CertificateAuthority) -> None:
        impostor = authority.issue("guest", ["127.0.0.1"], [])
        server = NodeServer("127.0.0.1", 0, impostor, {INTERFACE: FakeHypervisor()})
        server.start()
        try:
            control = client_context(authority.issue("control", [], ["control"]))
            with pytest.raises(HostUnavailable, match="no certificate of a node"):
                remote_hypervisor(Transport(*server.address, control)).info()
        finally:
            server.stop()

    def test_a_restarted_node_is_found_again(
        self, authority: CertificateAuthority, server: NodeServer
    ) -> None:
        control = client_context(authority.issue("control", [], ["control"]))
        host = remote_hypervisor(Transport(*server.address, control))
        assert host.info().vcpus
        server.stop()
        with pytest.raises(HostUnavailable):
            host.info()
        node = authority.issue("n1", ["127.0.0.1"], ["node"])
        again = NodeServer(*server.address, node, {INTERFACE: FakeHypervisor("again")})
        again.start()
        assert host.info().hostname == "again"
        again.stop()


class TestKnobs:
    """What tests of the whole cloud rely on."""

    def test_a_lost_reply_still_did_its_work(self) -> None:
        fake = FakeHypervisor("n1")
        domain = FakeRig(fake, fake).domain()
        fake.lose_reply()
        with pytest.raises(HostUnavailable):
            fake.ensure(domain)
        assert list(fake.domains) == [domain.id]
        fake.ensure(domain)
        assert fake.starts(domain.id) == 1

    def test_down_dead_and_booted(self) -> None:
        fake = FakeHypervisor("n1")
        domain = FakeRig(fake, fake).domain()
        fake.ensure(domain)
        boot = fake.info().boot_id
        fake.die()
        with pytest.raises(HostUnavailable):
            fake.power(domain.id)
        fake.boot()
        assert fake.observe()[domain.id].stopped is Stopped.HOST
        assert fake.info().boot_id != boot

    def test_ports_are_plugged_and_unplugged(self) -> None:
        events: list[str] = []
        fake = FakeHypervisor(
            "n1", on_plug=lambda id: events.append(f"+{id}"), on_unplug=lambda id: events.append(f"-{id}")
        )
        rig = FakeRig(fake, fake)
        nic = rig.nic()
        domain = Domain(id=str(uuid.uuid4()), name="a", vcpus=1, memory_mib=64, nics=(nic,))
        fake.ensure(domain)
        fake.ensure(domain)
        fake.power_off(domain.id)
        fake.ensure(domain)
        fake.remove(domain.id)
        assert events == [f"+{nic.port_id}", f"-{nic.port_id}"] * 2

    def test_slow_things_take_their_time(self) -> None:
        fake = FakeHypervisor("n1")
        rig = FakeRig(fake, fake)
        image = ImageRef(id=str(uuid.uuid4()), format="qcow2", size=1, sha512="", virtual_size=1)
        fake.slow_image = 1
        domain = Domain(
            id=str(uuid.uuid4()), name="a", vcpus=1, memory_mib=64, image=image, disks=(rig.disk("vdb"),)
        )
        with pytest.raises(NotReady):
            fake.ensure(domain)
        fake.ensure(domain)
        fake.slow_detach = 1
        bare = Domain(id=domain.id, name="a", vcpus=1, memory_mib=64, image=image)
        with pytest.raises(DeviceBusy):
            fake.ensure(bare)
        fake.ensure(bare)
        assert fake.observe()[domain.id].disks == ()
