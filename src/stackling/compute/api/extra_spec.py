"""Extra specs of flavors that are known: their names, and what each may be set to.

From 2.86 on, a name in a namespace that is known must be one of them; names of operators' own namespaces are free.
"""

from collections.abc import Callable

import os_resource_classes
import os_traits
import re2

from stackling.base.errors import BadRequest
from stackling.base.rest import boolean

Check = Callable[[str], str]  # "" when a value will do, else what it should be


def _flag(value: str) -> str:
    try:
        boolean(value, "")
    except BadRequest:
        return "a boolean"
    return ""


def _text(value: str) -> str:
    return ""


def _number(least: int | None = None, most: int | None = None) -> Check:
    says = "a whole number"
    says += f" of at least {least}" if least is not None else ""
    says += f" and at most {most}" if most is not None else ""

    def check(value: str) -> str:
        try:
            number = int(value)
        except ValueError:
            return says
        return says if (least is not None and number < least) or (most is not None and number > most) else ""

    return check


def _one_of(*values: str) -> Check:
    return lambda value: "" if value in values else f"one of {', '.join(values)}"


def _like(pattern: str, says: str) -> Check:
    compiled = re2.compile(pattern)
    return lambda value: "" if compiled.fullmatch(value) else says


_any, _least_0, _least_1 = _number(), _number(0), _number(1)
_cpus = _like(r"\^?\d+(-\d+)?(,\^?\d+(-\d+)?)*", "a list of CPUs, such as 0-3,^2")
_trait = _one_of("required", "forbidden")

_NAMED: dict[str, Check] = {
    "accel:device_profile": _text,
    "group_policy": _one_of("isolate", "none"),
    "hide_hypervisor_id": _flag,
    "hw:boot_menu": _flag,
    "hw:cpu_cores": _least_1,
    "hw:cpu_dedicated_mask": _cpus,
    "hw:cpu_max_cores": _least_1,
    "hw:cpu_max_sockets": _least_1,
    "hw:cpu_max_threads": _least_1,
    "hw:cpu_policy": _one_of("dedicated", "shared", "mixed"),
    "hw:cpu_realtime": _flag,
    "hw:cpu_realtime_mask": _cpus,
    "hw:cpu_sockets": _least_1,
    "hw:cpu_thread_policy": _one_of("prefer", "isolate", "require"),
    "hw:cpu_threads": _least_1,
    "hw:emulator_threads_policy": _one_of("isolate", "share"),
    "hw:ephemeral_encryption": _flag,
    "hw:ephemeral_encryption_format": _one_of("luks", "plain"),
    "hw:hide_hypervisor_id": _flag,
    "hw:locked_memory": _flag,
    "hw:max_cpu_cores": _least_1,
    "hw:max_cpu_sockets": _least_1,
    "hw:max_cpu_threads": _least_1,
    "hw:maxphysaddr_bits": _least_0,
    "hw:maxphysaddr_mode": _one_of("emulate", "passthrough"),
    "hw:mem_encryption": _flag,
    "hw:mem_encryption_model": _one_of("amd-sev", "amd-sev-es"),
    "hw:mem_page_size": _like(
        r"large|small|any|\d+([kKMGT]i?)?(b|bit|B)?", "large, small, any or a size such as 2MB"
    ),
    "hw:numa_nodes": _least_1,
    "hw:pci_numa_affinity_policy": _one_of("required", "preferred", "legacy", "socket"),
    "hw:pmem": _like(r"([a-zA-Z0-9_]+,?)+", "a list of labels"),
    "hw:pmu": _flag,
    "hw:redirected_usb_ports": _number(0, 15),
    "hw:serial_port_count": _least_0,
    "hw:sound_model": _text,
    "hw:tpm_model": _one_of("tpm-tis", "tpm-crb"),
    "hw:tpm_secret_security": _one_of("user", "host", "deployment"),
    "hw:tpm_version": _one_of("1.2", "2.0"),
    "hw:usb_model": _text,
    "hw:vif_multiqueue_enabled": _flag,
    "hw:viommu_model": _one_of("intel", "smmuv3", "virtio", "auto"),
    "hw:virtio_packed_ring": _flag,
    "hw:watchdog_action": _one_of("none", "pause", "poweroff", "reset", "disabled"),
    "hw_rng:allowed": _flag,
    "hw_rng:rate_bytes": _least_0,
    "hw_rng:rate_period": _least_0,
    "hw_video:ram_max_mb": _least_0,
    "os:secure_boot": _one_of("disabled", "required"),
    "pci_passthrough:alias": _like(
        r"[^:]+:\d+(\s*,\s*[^:]+:\d+)*", "alias:number, or several with commas between"
    ),
    "vmware:hw_version": _text,
    "vmware:storage_policy": _text,
    **{f"quota:cpu_{key}": _least_0 for key in ("shares", "period", "quota")},
    **{
        f"quota:disk_{way}_{unit}_sec": _least_0
        for way in ("read", "write", "total")
        for unit in ("bytes", "iops")
    },
    **{
        f"quota:vif_{way}_{kind}": _least_0
        for way in ("inbound", "outbound")
        for kind in ("average", "peak", "burst")
    },
    **{
        f"quota:{of}_{key}": _text if key == "shares_level" else _any
        for of in ("cpu", "memory", "disk_io", "vif")
        for key in ("limit", "reservation", "shares_level", "shares_share")
    },
}
# What a host is asked for, beneath `capabilities:`; the second kind may have words below them, each after a colon.
_FACTS = (
    *("id", "uuid", "service_id", "host", "vcpus", "memory_mb", "local_gb", "vcpus_used", "memory_mb_used"),
    *("local_gb_used", "hypervisor_type", "hypervisor_version", "hypervisor_hostname", "free_ram_mb"),
    *("free_disk_gb", "current_workload", "running_vms", "disk_available_least", "host_ip", "mapped"),
    *("cpu_allocation_ratio", "ram_allocation_ratio", "disk_allocation_ratio", "total_usable_ram_mb"),
    *("total_usable_disk_gb", "disk_mb_used", "free_disk_mb", "vcpus_total", "num_instances", "num_io_ops"),
    *("failed_builds", "aggregates", "cell_uuid", "updated"),
)
_TREES = (
    *("cpu_info", "metrics", "stats", "numa_topology", "supported_hv_specs", "pci_device_pools", "nodename"),
    *("pci_stats", "supported_instances", "limits", "instances"),
)
_GROUP = r"[a-zA-Z0-9_-]{0,64}"
_SHAPED: tuple[tuple[str, Check], ...] = (
    (r"hw:numa_cpus\.\d+", _cpus),
    (r"hw:numa_mem\.\d+", _least_1),
    (r"aggregate_instance_extra_specs:.+", _text),
    (rf"capabilities:({'|'.join(_FACTS)}|({'|'.join(_TREES)})(:\w+)*)", _text),
    (rf"resources{_GROUP}:({'|'.join(os_resource_classes.STANDARDS)}|CUSTOM_[A-Z0-9_]+)", _any),
    (rf"trait{_GROUP}:({'|'.join(os_traits.get_traits())}|CUSTOM_[A-Z0-9_]+)", _trait),
)
_COMPILED = [(re2.compile(pattern), check) for pattern, check in _SHAPED]
_SPACES = re2.compile(
    "|".join(dict.fromkeys(name.partition(":")[0] for name in _NAMED if ":" in name))
    + rf"|aggregate_instance_extra_specs|capabilities|resources{_GROUP}|trait{_GROUP}"
)


def validate(name: str, value: str) -> None:
    """Raises BadRequest for a name that a known namespace does not have, and for a value that its name forbids."""
    check = _NAMED.get(name) or next((c for shape, c in _COMPILED if shape.fullmatch(name)), None)
    if check is None:
        space, colon, _ = name.partition(":")
        if colon and _SPACES.fullmatch(space):
            raise BadRequest(
                f"Validation failed; extra spec '{name[:64]}' does not appear to be a valid extra spec."
            )
        return
    if wrong := check(value):
        raise BadRequest(
            f"Validation failed; '{value[:64]}' is not what extra spec '{name[:64]}' takes: {wrong}."
        )
