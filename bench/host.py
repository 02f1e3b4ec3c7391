"""A real host: start of the cloud, memory at rest, a server against the same domain started by libvirt alone, and until ssh.

    python -m bench.host --ready-image DIRECTORY [--rounds 5] [--skip-ssh] [--json]      in a simulated host
    python -m bench.host --on-this-machine …                                             on this machine, whose own cloud must not run

Needs root, Open vSwitch, OVN, libvirt and QEMU. DIRECTORY holds ready.qcow2 and ready.qcow2.json as the image builder
made them; without it the cloud builds the image first, from Debian's packages.
"""

import argparse
import contextlib
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench import measure
from bench.cloud import Cloud, command, free_port, running
from bench.measure import Failed
from stackling.compute.driver import GuestData
from stackling.compute.drivers.config_drive import write_config_drive

_ENTER = Path(__file__).parent.parent / "tests" / "host" / "enter"
_STATE = Path("/var/lib/stackling")


def main() -> None:
    asked = argparse.ArgumentParser(prog="python -m bench.host", description=__doc__.splitlines()[0])
    asked.add_argument("--ready-image", type=Path, help="directory with ready.qcow2 and ready.qcow2.json")
    asked.add_argument("--rounds", type=int, default=5, help="servers created one after the other")
    asked.add_argument(
        "--skip-ssh", action="store_true", help="leave out the boots until ssh, minutes without KVM"
    )
    asked.add_argument("--on-this-machine", action="store_true")
    asked.add_argument("--json", action="store_true")
    options = asked.parse_args()
    if not options.on_this_machine and not os.environ.get("SIMULATED_HOST"):
        os.execv(_ENTER, [str(_ENTER), sys.executable, "-m", "bench.host", *sys.argv[1:]])
    found: dict[str, Any] = {"machine": {**measure.machine(), "kvm": Path("/dev/kvm").exists()}}
    variables = dict(os.environ)
    if options.ready_image:
        (_STATE / "ready-image").mkdir(parents=True, exist_ok=True)
        for name in ("ready.qcow2", "ready.qcow2.json"):
            shutil.copy2(options.ready_image / name, _STATE / "ready-image" / name)
    before = set(_processes())
    try:
        found["start"], cloud = _starts(variables)
        image = cloud.image()
        time.sleep(20)  # what the start set going is through, and the memory is that of a cloud at rest
        found["memory, MiB of PSS"] = _memory(before)
        network, address = _network(cloud)
        _timed("POST to ACTIVE", lambda: _servers(cloud, image, network, options.rounds), found)
        if not options.skip_ssh:
            _timed("until ssh", lambda: _ssh(cloud, image, network, address), found)
    finally:
        command(("down", "--purge"), variables, may_fail=True)
    measure.report("host", found, as_json=options.json)


def _timed(name: str, of: Callable[[], dict[str, Any]], found: dict[str, Any]) -> None:
    """A part that fails says so and leaves the others their result."""
    try:
        found[name] = of()
    except (Failed, OSError, subprocess.SubprocessError) as e:
        found[name] = {"failed": str(e)}


# -- start and memory --------------------------------------------------------------------------------------------------


def _starts(variables: dict[str, str]) -> tuple[dict[str, Any], Cloud]:
    """Seconds from the command to all services answering: first start, second, and after the process alone was ended."""
    first, cloud = _start(variables)
    command(("down",), variables)
    second, cloud = _start(variables)
    return {"first_s": first, "second_s": second, "budget_second_s": 5.0}, cloud


def _start(variables: dict[str, str]) -> tuple[float, Cloud]:
    began = time.perf_counter()
    command(("up",), variables)
    cloud = running(variables, (), _STATE)
    for service, path in (
        ("compute", "/servers"),
        ("network", "/networks"),
        ("image", "/images"),
        ("volume", "/volumes"),
        ("placement", "/resource_providers"),
    ):
        cloud.call(service, path)
    cloud.until(
        lambda: any(
            h["state"] == "up" for h in cloud.call("compute", "/os-hypervisors/detail").json["hypervisors"]
        ),
        "the hypervisor",
        every=0.02,
    )
    return round(time.perf_counter() - began, 2), cloud


def _processes() -> Iterator[int]:
    return (int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit())


def _memory(before: set[int]) -> dict[str, Any]:
    """Proportional shares of all processes that the cloud brought, by name."""
    own = {os.getpid(), os.getppid()}
    shares: dict[str, int] = {}
    for pid in _processes():
        if pid in before or pid in own:
            continue
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            name = next(
                (n for n in ("stackling.boot", "stackling.node") if n in words),
                Path(f"/proc/{pid}/comm").read_text().strip(),
            )
            if share := measure.pss(pid):
                shares[name] = shares.get(name, 0) + share
    return {
        "all": round(sum(shares.values()) / 1024),
        "budget": 250,
        **{n: round(s / 1024, 1) for n, s in sorted(shares.items(), key=lambda one: -one[1])},
    }


# -- servers -----------------------------------------------------------------------------------------------------------


def _network(cloud: Cloud) -> tuple[str, tuple[str, str]]:
    """A network behind a router to the first external one, open for ssh; and (port id, floating IP) of a port on it."""
    public = cloud.call("network", "/networks?router:external=true").json["networks"][0]["id"]
    network = cloud.call("network", "/networks", "POST", {"network": {"name": "bench"}}, expect=201).json[
        "network"
    ]["id"]
    subnet = {"network_id": network, "ip_version": 4, "cidr": "10.7.0.0/24"}
    subnet_id = cloud.call("network", "/subnets", "POST", {"subnet": subnet}, expect=201).json["subnet"]["id"]
    router = {"name": "bench", "external_gateway_info": {"network_id": public}}
    router_id = cloud.call("network", "/routers", "POST", {"router": router}, expect=201).json["router"]["id"]
    cloud.call("network", f"/routers/{router_id}/add_router_interface", "PUT", {"subnet_id": subnet_id})
    group = cloud.call("network", f"/security-groups?name=default&project_id={cloud.project_id}").json[
        "security_groups"
    ][0]["id"]
    rule = {
        "security_group_id": group,
        "direction": "ingress",
        "ethertype": "IPv4",
        "protocol": "tcp",
        "port_range_min": 22,
        "port_range_max": 22,
    }
    cloud.call("network", "/security-group-rules", "POST", {"security_group_rule": rule}, expect=201)
    port = cloud.call("network", "/ports", "POST", {"port": {"network_id": network}}, expect=201).json[
        "port"
    ]["id"]
    wanted = {"floating_network_id": public, "port_id": port}
    made = cloud.call("network", "/floatingips", "POST", {"floatingip": wanted}, expect=201).json[
        "floatingip"
    ]
    return network, (port, made["floating_ip_address"])


def _create(cloud: Cloud, image: str, nic: dict[str, str]) -> tuple[str, float]:
    """(server id, seconds until it is ACTIVE)"""
    want = {"name": "bench", "imageRef": image, "flavorRef": cloud.flavor(), "networks": [nic]}
    began = time.perf_counter()
    id = str(cloud.call("compute", "/servers", "POST", {"server": want}, expect=202).json["server"]["id"])
    cloud.until(lambda: cloud.server(id)["status"] == "ACTIVE", "a server", seconds=300, every=0.01)
    return id, time.perf_counter() - began


def _delete(cloud: Cloud, id: str) -> None:
    cloud.call("compute", f"/servers/{id}", "DELETE", expect=204)
    cloud.until(lambda: cloud.status("compute", f"/servers/{id}") == 404, "deletion", seconds=120, every=0.05)


def _servers(cloud: Cloud, image: str, network: str, rounds: int) -> dict[str, Any]:
    """POST → ACTIVE, and `virsh create` of the domain that the cloud made, in turn."""
    ours, bare = [], []
    for _ in range(rounds):
        id, took = _create(cloud, image, {"uuid": network})
        ours.append(took)
        bare.append(_virsh_create(cloud, id))
        _delete(cloud, id)
    beyond = statistics.median(ours) - statistics.median(bare)
    return {
        "cloud": measure.spread(ours),
        "virsh create": measure.spread(bare),
        "result": {
            "beyond_ms": round(beyond * 1e3),
            "budget_ms": 300,
            "ratio": round(statistics.median(ours) / statistics.median(bare), 2),
        },
    }


def _virsh(*arguments: str) -> str:
    return subprocess.run(
        ["virsh", "-q", "-c", "qemu:///system", *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout


def _virsh_create(cloud: Cloud, id: str) -> float:
    """Seconds that libvirt alone needs for the server's own domain, after it was switched off."""
    with tempfile.NamedTemporaryFile("w", suffix=".xml") as file:
        file.write(_virsh("dumpxml", "--security-info", "--inactive", id))
        file.flush()
        cloud.call("compute", f"/servers/{id}/action", "POST", {"os-stop": None}, expect=202)
        cloud.until(lambda: cloud.server(id)["status"] == "SHUTOFF", "switching off", seconds=120, every=0.05)
        began = time.perf_counter()
        _virsh("create", file.name)
        took = time.perf_counter() - began
        _virsh("destroy", id)
        return took


# -- until ssh ---------------------------------------------------------------------------------------------------------


def _ssh(cloud: Cloud, image: str, network: str, address: tuple[str, str]) -> dict[str, Any]:
    """POST → the guest's ssh answers at its floating IP, against QEMU alone with the same image, memory and accelerator."""
    port, floating = address
    began = time.perf_counter()
    id, active = _create(cloud, image, {"port": port})
    kvm = "type='kvm'" in _virsh("dumpxml", id)
    _banner(floating, 22)
    ours = time.perf_counter() - began
    _delete(cloud, id)
    bare = _plain_qemu("kvm" if kvm else "tcg")
    return {
        "cloud_s": round(ours, 1),
        "of_that_until_active_s": round(active, 2),
        "plain_qemu_s": round(bare, 1),
        "ratio": round(ours / bare, 2),
        "accelerator": "kvm" if kvm else "tcg",
    }


def _banner(host: str, port: int, seconds: float = 400) -> None:
    """Return when an ssh server greets. Raises Failed."""
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends:
        with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=2) as s:
            s.settimeout(5)
            if s.recv(64).startswith(b"SSH-"):
                return
        time.sleep(0.1)
    raise Failed(f"no ssh server answers at {host}:{port} within {seconds:.0f} s")


def _plain_qemu(accel: str) -> float:
    """Seconds until ssh answers in a guest that QEMU runs by itself, on an overlay as the cloud makes one."""
    base = _STATE / "ready-image" / "ready.qcow2"
    with tempfile.TemporaryDirectory(prefix="stackling-bench-") as home:
        port, disk = free_port(), Path(home) / "disk.qcow2"
        subprocess.run(
            ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(base), str(disk), "1G"],
            check=True,
            timeout=60,
        )
        arguments = [
            "-machine",
            f"q35,accel={accel}",
            "-m",
            "128",
            "-smp",
            "1",
            "-display",
            "none",
            "-serial",
            "none",
            "-monitor",
            "none",
            "-no-user-config",
        ]
        arguments += [
            "-drive",
            f"file={disk},if=virtio,cache=none",
            "-netdev",
            f"user,id=n,hostfwd=tcp:127.0.0.1:{port}-:22",
            "-device",
            "virtio-net-pci,netdev=n",
        ]
        # Without metadata the guest would wait half a minute for some before it opens ssh.
        data = GuestData(meta_data={"uuid": str(uuid.uuid4()), "name": "plain", "hostname": "plain"})
        write_config_drive(Path(home) / "config.iso", data)
        arguments += ["-drive", f"file={home}/config.iso,format=raw,if=virtio,readonly=on"]
        arguments += ["-device", "virtio-rng-pci", *(["-cpu", "host"] if accel == "kvm" else [])]
        began = time.perf_counter()
        process = subprocess.Popen(["qemu-system-x86_64", *arguments], stdout=subprocess.DEVNULL)
        try:
            _banner("127.0.0.1", port)
            return time.perf_counter() - began
        finally:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
