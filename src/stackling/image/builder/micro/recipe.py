"""Recipes: what goes into an image. Data only; the steps that follow it are in the other modules."""

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path

GUEST = Path(__file__).parent / "guest"
# Raise it when the steps change what an image contains though its recipe stays the same.
_STEPS = 1


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """An image to build. Sizes in MiB; paths as seen in the guest, where /bin, /sbin and /usr/sbin are /usr/bin."""

    name: str
    #: Packages that programs, libraries and modules are taken from.
    packages: tuple[str, ...]
    #: Packages whose dependencies are wanted: they name the current kernel.
    metapackages: tuple[str, ...]
    #: Programs (and plug-ins) to keep; the libraries they need follow by themselves.
    programs: tuple[str, ...]
    #: Other names of programs (name → target).
    links: dict[str, str]
    #: Names of busybox that get no link, since a fuller program has that name.
    without_applets: frozenset[str]
    #: Kernel modules the initial RAM disk loads, in order, to find the root disk.
    boot_modules: tuple[str, ...]
    #: Kernel modules kept in the root file system; what they depend on follows.
    modules: tuple[str, ...]
    #: Directory with the image's own files, laid over the tree: `root/` and `initrd/`.
    files: Path
    #: Files of `files` that are not 0644 (or 0755 when they are scripts), and files with the setuid bit.
    modes: dict[str, int] = field(default_factory=dict)
    #: Directories to make, with mode and owner's uid (and gid).
    directories: dict[str, tuple[int, int]] = field(default_factory=dict)
    kernel_arguments: str
    boot_mib: int
    #: Room left free in the root file system before it grows to its disk.
    spare_mib: int

    @property
    def version(self) -> str:
        """Changes whenever the recipe, the image's own files or the builder's steps change."""
        told = asdict(self)
        told["files"] = {
            str(path.relative_to(self.files)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(self.files.rglob("*"))
            if path.is_file()
        }
        told["without_applets"] = sorted(self.without_applets)
        return f"{_STEPS}-{hashlib.sha256(repr(sorted(told.items())).encode()).hexdigest()[:12]}"


READY = Recipe(
    name="ready",
    packages=(
        *(
            "bash",
            "busybox-static",
            "curl",
            "dosfstools",
            "dropbear-bin",
            "e2fsprogs",
            "fdisk",
            "iputils-ping",
        ),
        *("jq", "openssh-client"),
        *("openssh-sftp-server", "qemu-guest-agent", "socat", "sudo", "util-linux"),
        # libraries, in the order of the programs that brought them
        *(
            "libc6",
            "libcurl4",
            "zlib1g",
            "libnghttp2-14",
            "libidn2-0",
            "libunistring2",
            "librtmp1",
            "libgnutls30",
        ),
        *(
            "libp11-kit0",
            "libnettle8",
            "libhogweed6",
            "libgmp10",
            "libtasn1-6",
            "libffi8",
            "libssh2-1",
            "libpsl5",
        ),
        *("libssl3", "libgssapi-krb5-2", "libkrb5-3", "libk5crypto3", "libkrb5support0", "libcom-err2"),
        *("libkeyutils1", "libldap-2.5-0", "libsasl2-2", "libzstd1", "libbrotli1"),
        *("libtomcrypt1", "libtommath1", "libcrypt1", "libext2fs2", "libblkid1", "libuuid1", "libss2"),
        *(
            "libfdisk1",
            "libsmartcols1",
            "libtinfo6",
            "libreadline8",
            "libmount1",
            "libselinux1",
            "libpcre2-8-0",
        ),
        *(
            "libudev1",
            "libjq1",
            "libonig5",
            "libglib2.0-0",
            "libnuma1",
            "liburing2",
            "libwrap0",
            "libnsl2",
            "libtirpc3",
        ),
        *("libaudit1", "libcap-ng0", "libcap2", "libpam0g", "libpam-modules"),
    ),
    metapackages=("linux-image-cloud-amd64",),
    programs=(
        *(
            "/usr/bin/busybox",
            "/usr/bin/bash",
            "/usr/bin/curl",
            "/usr/bin/jq",
            "/usr/bin/sudo",
            "/usr/libexec/sudo/sudoers.so",
        ),
        *(
            "/usr/bin/ping",
            "/usr/bin/lsblk",
            "/usr/bin/blkid",
            "/usr/bin/partx",
            "/usr/bin/sfdisk",
            "/usr/bin/mke2fs",
        ),
        *(
            "/usr/bin/e2fsck",
            "/usr/bin/resize2fs",
            "/usr/bin/mkfs.fat",
            "/usr/bin/dropbear",
            "/usr/bin/dropbearkey",
        ),
        *(
            "/usr/bin/ssh",
            "/usr/bin/scp",
            "/usr/lib/openssh/sftp-server",
            "/usr/bin/socat",
            "/usr/bin/qemu-ga",
        ),
        "/usr/lib/x86_64-linux-gnu/security/pam_permit.so",
    ),
    links={
        "/usr/bin/mkfs.ext2": "mke2fs",
        "/usr/bin/mkfs.ext3": "mke2fs",
        "/usr/bin/mkfs.ext4": "mke2fs",
        "/usr/bin/fsck.ext4": "e2fsck",
        "/usr/bin/mkfs.vfat": "mkfs.fat",
        "/usr/bin/ping6": "ping",
        # Not busybox: its shell prefers its own applets to programs, so "ping" would not be the ping of PATH.
        "/usr/bin/sh": "bash",
        "/usr/lib/sftp-server": "openssh/sftp-server",
        "/etc/mtab": "/proc/self/mounts",
        "/var/lock": "/run/lock",
        "/var/run": "/run",
        "/etc/resolv.conf": "/run/resolv.conf",
    },
    without_applets=frozenset({"dpkg", "dpkg-deb", "mke2fs", "nc", "rpm", "rpm2cpio", "linuxrc"}),
    boot_modules=("virtio_pci", "virtio_blk", "virtio_scsi", "ata_piix", "sd_mod", "ext4"),
    modules=(
        *(
            "virtio_net",
            "virtio_rng",
            "virtio_console",
            "virtio_balloon",
            "virtio_blk",
            "virtio_scsi",
            "virtio_pci",
        ),
        *("virtio_input", "evdev", "button", "sd_mod", "sr_mod", "ata_piix", "isofs", "vfat", "nls_cp437"),
        *(
            "nls_ascii",
            "nls_iso8859-1",
            "nls_utf8",
            "8021q",
            "dummy",
            "veth",
            "tun",
            "bridge",
            "loop",
            "squashfs",
        ),
        *("wireguard", "pvpanic-pci"),
    ),
    files=GUEST,
    modes={"/etc/shadow": 0o600, "/etc/sudoers": 0o440, "/usr/bin/sudo": 0o4755},
    directories={
        "/dev": (0o755, 0),
        "/home/cirros": (0o700, 1001),
        "/home/stackling": (0o700, 1000),
        "/media": (0o755, 0),
        "/mnt": (0o755, 0),
        "/proc": (0o555, 0),
        "/root": (0o700, 0),
        "/run": (0o755, 0),
        "/sys": (0o555, 0),
        "/tmp": (0o1777, 0),
        "/var/lib/stackling": (0o700, 0),
        "/var/log": (0o755, 0),
        "/var/tmp": (0o1777, 0),
    },
    # Debian's serial console is last, so that it is /dev/console. tsc=reliable makes a migrated guest's clock jump.
    kernel_arguments=(
        "quiet no_timer_check mitigations=off random.trust_cpu=on net.ifnames=0 console=tty0 console=ttyS0,115200"
    ),
    boot_mib=20,
    spare_mib=24,
)
