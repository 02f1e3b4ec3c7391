"""Debian and what descends from it: packages are fetched (and checked) by apt, then installed by mmdebstrap.

The two are apart, so that the network is only there for apt, and installing, which runs scripts of the packages and the
recipe's commands, has none. Both run confined.
"""

import contextlib
import hashlib
import io
import os
import shlex
import shutil
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from msgspec import Struct

from stackling.image.builder import recipe as recipes
from stackling.image.builder.agent import agent_files
from stackling.image.builder.recipe import File, Recipe
from stackling.image.builder.run import BuildError
from stackling.image.builder.work import Work, link, own

#: Commands this needs, and the Debian packages that have them.
TOOLS = {"apt-get": "apt", "dpkg-deb": "dpkg", "mmdebstrap": "mmdebstrap"}
_NO_EXPIRY = "/usr/libexec/mmdebstrap/gpgvnoexpkeysig"
_FETCH_SECONDS, _INSTALL_SECONDS = 3600.0, 7200.0
_HOST_KEYS = """[Unit]
Description=Make this machine's own ssh host keys
ConditionPathExistsGlob=!/etc/ssh/ssh_host_*_key
Before=ssh.service

[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -A

[Install]
RequiredBy=ssh.service"""
_SCAFFOLD = ("/etc/apt/apt.conf.d/99mmdebstrap", "/etc/apt/sources.list.d/0000local.list")


class Package(Struct, frozen=True):
    """A package of an image, as its repository describes it."""

    name: str
    version: str
    architecture: str
    sha256: str
    source: str = ""


def fetch(recipe: Recipe, work: Work) -> list[Package]:
    """Have the packages of a recipe, and what they need, in `scratch/repository`. Raises BuildError, Stopped."""
    apt = work.scratch / "apt"
    _prepare_apt(recipe, work, apt)
    # Another repository may have other packages of the same name and version.
    places = sorted(
        f"{work.mirrors.get(p.uri, p.uri)} {p.suite} {recipe.release}" for p in recipe.repositories
    )
    kept = work.cache / "archives" / hashlib.sha256("\n".join(places).encode()).hexdigest()[:16]
    kept.mkdir(parents=True, exist_ok=True)
    archives = apt / "cache" / "archives"
    # The cache's files are root's: whoever runs confined can read them and nothing else.
    for file in kept.glob("*.deb"):
        link(file, archives / file.name)
    get = f"apt-get -c {apt}/apt.conf -q -o APT::Sandbox::User=root"
    wanted = " ".join(shlex.quote(name) for name in recipe.packages)
    wanted = f"--yes --no-install-recommends '?essential' '?priority(required)' {wanted}"
    most = (work.limits.disk_mib if work.limits else 1 << 20) * recipes.MIB
    script = f"""set -e
{get} update
{get} install --print-uris {wanted} -o Dir::Cache::archives={apt}/none/ >{apt}/uris
awk '/^\\047/ {{ n += $3 }} END {{ if (n > {most}) {{ print "the packages take " int(n / {recipes.MIB}) " MiB, which is too much"; exit 1 }} }}' {apt}/uris
{get} install --download-only {wanted}
sed -n "s/^'[^']*' \\([^ ]*\\) .*/\\1/p" {apt}/uris >{apt}/wanted
sed 's/_/=/; s/_.*//; s/%3a/:/g' {apt}/wanted | xargs apt-cache -c {apt}/apt.conf show >{apt}/records
"""
    work.say(5, "fetching packages from the recipe's repositories")
    work.confined(
        ["sh", "-c", script],
        "Fetching packages",
        seconds=_FETCH_SECONDS,
        network=True,
        cwd=apt,
        keep=_local(recipe, work),
    )
    return _take(work, apt, kept)


def _prepare_apt(recipe: Recipe, work: Work, apt: Path) -> None:
    for directory in ("lists/partial", "cache/archives/partial", "none/partial", "etc"):
        (apt / directory).mkdir(parents=True)
    keys = apt / "keys.gpg"
    try:
        found = [recipes.keyring(recipe), *([work.keyring] if work.keyring else [])]
        keys.write_bytes(b"".join(file.read_bytes() for file in found))
    except OSError as e:
        raise BuildError(f"keyring: {e.filename}: {e.strerror}") from None
    lines = []
    for place in recipe.repositories:
        uri = next(
            (work.mirrors[m] for m in (place.uri, place.uri.rstrip("/")) if m in work.mirrors), place.uri
        )
        suite = recipes.fill(place.suite, recipe)
        tail = "" if suite.endswith("/") else " " + " ".join(place.components)
        lines.append(f"deb [signed-by={keys}] {uri} {suite}{tail}\n")
    (apt / "sources.list").write_text("".join(lines))
    (apt / "status").touch()
    options = [
        f'Dir::Etc::sourcelist "{apt}/sources.list";',
        f'Dir::Etc::sourceparts "{apt}/etc";',
        f'Dir::Etc::preferences "{apt}/none.pref";',
        f'Dir::Etc::preferencesparts "{apt}/etc";',
        f'Dir::State "{apt}";',
        f'Dir::State::Lists "{apt}/lists/";',
        f'Dir::State::status "{apt}/status";',
        f'Dir::State::extended_states "{apt}/extended_states";',
        f'Dir::Cache "{apt}/cache/";',
        f'Dir::Cache::archives "{apt}/cache/archives/";',
        f'APT::Architecture "{recipe.architecture}";',
        f'APT::Architectures {{"{recipe.architecture}";}};',
        'Acquire::Languages "none";',
        'Acquire::Retries "3";',
        'APT::Update::Post-Invoke-Success "";',
        "#clear APT::Update::Post-Invoke-Success;",
        "#clear DPkg::Post-Invoke;",
    ]
    if recipe.archived:
        options += [
            'Acquire::Check-Valid-Until "false";',
            'APT::Hashes::SHA1::Weak "false";',
            f'APT::Key::gpgvcommand "{_NO_EXPIRY}";',
        ]
    (apt / "apt.conf").write_text("\n".join(options) + "\n")
    for path in [apt, *apt.rglob("*")]:
        own(path)


def _local(recipe: Recipe, work: Work) -> list[Path]:
    """Repositories that are directories of this host."""
    places = [work.mirrors.get(place.uri, place.uri) for place in recipe.repositories]
    return [Path(p.partition(":")[2].removeprefix("//")) for p in places if p.startswith(("file:", "copy:"))]


def _take(work: Work, apt: Path, kept: Path) -> list[Package]:
    """Move what was fetched into a repository of its own, and what is new into the cache."""
    records = {
        (r["Package"], r["Version"]): r for r in _records((apt / "records").read_text(errors="replace"))
    }
    repository = work.scratch / "repository"
    repository.mkdir()
    packages, index = [], []
    for name in sorted(set((apt / "wanted").read_text().split())):
        file = apt / "cache" / "archives" / name
        package, version, _ = name.replace("%3a", ":").removesuffix(".deb").split("_")
        record = records.get((package, version))
        if record is None or not file.is_file() or file.is_symlink():
            raise BuildError(f"Fetching packages: apt did not deliver {package} {version}")
        data = file.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        # The confined apt has checked it already; this also guards what lies in the cache.
        if digest != record.get("SHA256"):
            (kept / name).unlink(missing_ok=True)
            raise BuildError(f"Fetching packages: {name} is not what its repository says; try again")
        (repository / name).write_bytes(data)
        if (kept / name).exists():
            os.utime(kept / name)  # `prune` takes what was not needed for longest
        else:
            (kept / f".{name}").write_bytes(data)
            (kept / f".{name}").replace(kept / name)
        packages.append(
            Package(package, version, record["Architecture"], digest, record.get("Source", package))
        )
        index.append("".join(f"{k}: {v}\n" for k, v in {**record, "Filename": f"./{name}"}.items()))
    (repository / "Packages").write_text("\n".join(index))
    shutil.rmtree(apt)
    return packages


def prune(cache: Path, most: int) -> None:
    """Have no more than `most` bytes of packages in the cache."""
    files = sorted(
        ((file, file.stat()) for file in cache.glob("archives/*/*.deb")), key=lambda f: f[1].st_mtime
    )
    left = sum(about.st_size for _, about in files)
    for file, about in files:
        if left > most:
            file.unlink()
            left -= about.st_size
    for place in cache.glob("archives/*"):
        with contextlib.suppress(OSError):
            place.rmdir()  # an empty one


def _records(text: str) -> Iterable[dict[str, str]]:
    """The paragraphs of a control file."""
    for paragraph in text.split("\n\n"):
        record: dict[str, str] = {}
        key = ""
        for line in paragraph.splitlines():
            if line.startswith((" ", "\t")) and key:
                record[key] += "\n" + line
            elif ":" in line:
                key, _, value = line.partition(":")
                record[key] = value.strip()
        if "Package" in record:
            yield record


def install(recipe: Recipe, work: Work, uuid: str) -> None:
    """Install the fetched packages as a tree in `scratch/root`, with the recipe's files, users and commands in it.

    `uuid` is that of the root file system to be. Raises BuildError, Stopped.
    """
    scratch = work.scratch
    (scratch / "root").mkdir()
    own(scratch / "root")
    lay_out(recipe, scratch, uuid, scratch)
    work.say(25, "installing packages")
    work.confined(
        mmdebstrap(recipe, scratch, scratch / "root"), "Installing packages", seconds=_INSTALL_SECONDS
    )


def lay_out(recipe: Recipe, place: Path, uuid: str, seen: Path) -> None:
    """Put what the installation needs besides the packages into `place`, which it sees as `seen`."""
    (place / "files.tar").write_bytes(_tar(_files(recipe, uuid)))
    hook = place / "customize"
    hook.write_text(_customize(recipe, seen))
    hook.chmod(0o755)


def mmdebstrap(recipe: Recipe, place: Path, root: Path) -> list[str | Path]:
    """The command that installs what was laid out in `place`, with the packages in `place/repository`, as `root`."""
    excluded = [f"--dpkgopt=path-exclude={pattern}" for pattern in recipe.without]
    return [
        *("mmdebstrap", "--mode=root", "--variant=required", "--format=directory", "--verbose"),
        *("--architectures=" + recipe.architecture, "--skip=cleanup/reproducible", "--skip=check/qemu"),
        "--aptopt=APT::Install-Recommends false",
        "--dpkgopt=force-unsafe-io",
        *excluded,
        "--include=" + ",".join(recipe.packages),
        f"--customize-hook={place / 'customize'}",
        *("", root),  # the release is not the repository's, which has no Release file
        f"deb [trusted=yes] copy://{place}/repository ./",
    ]


def _files(recipe: Recipe, uuid: str) -> list[File]:
    """The files that every image has, and the recipe's own, which come last and win."""
    kinds = {"ext4": "ext4", "ext3": "ext3"}
    linux = f"root=UUID={uuid} ro {recipe.kernel_arguments}"
    sources = "".join(
        f"deb {place.uri} {recipes.fill(place.suite, recipe)} {' '.join(place.components)}\n"
        for place in recipe.repositories
    )
    made = [
        File(path="/etc/apt/sources.list", content=sources),
        File(
            path="/etc/fstab",
            content=f"UUID={uuid} / {kinds[recipe.disk.filesystem]} errors=remount-ro 0 1\n",
        ),
        File(path="/etc/hostname", content="localhost\n"),
        File(path="/etc/hosts", content="127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"),
        File(path="/boot/grub/grub.cfg", content=_GRUB.replace("@uuid@", uuid).replace("@linux@", linux)),
        # The kernel's links stay where the boot loader looks.
        File(path="/etc/kernel-img.conf", content="do_symlinks = yes\nlink_in_boot = no\n"),
    ]
    if recipe.cloud == "cloud-init":
        made.append(File(path="/etc/cloud/cloud.cfg.d/90-stackling.cfg", content=_cloud_init(recipe.login)))
    if recipe.cloud == "agent":
        made += agent_files(recipe.login)
    return [*made, *recipe.files]


CLOUD_INIT = """# Where this machine learns who it is; nothing else is tried.
datasource_list: [ConfigDrive, OpenStack, None]
locale: C.UTF-8
apt: {preserve_sources_list: true}
"""


def _cloud_init(login: str) -> str:
    """CLOUD_INIT, and that `login` gets the cloud's keys, whoever the distribution's own user is."""
    if login == "root":
        return f"{CLOUD_INIT}disable_root: false\n"
    return f"{CLOUD_INIT}system_info: {{default_user: {{name: {login}}}}}\n"


_GRUB = """# Static on purpose: kernel packages keep the links /vmlinuz and /initrd.img up to date.
set timeout=1
set default=0
search --no-floppy --fs-uuid --set=root @uuid@
set dir=
if [ ! -e /vmlinuz ]; then set dir=/boot; fi
menuentry "Linux" { linux $dir/vmlinuz @linux@
 initrd $dir/initrd.img }
menuentry "Linux, the kernel before" { linux $dir/vmlinuz.old @linux@
 initrd $dir/initrd.img.old }
"""


def _tar(files: Sequence[File]) -> bytes:
    """Files as an archive, to be unpacked in the image by the image's own tar: no link of a package can lead it out."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for file in files:
            entry = tarfile.TarInfo(file.path.lstrip("/"))
            body = file.content.encode()
            entry.size, entry.mode, entry.mtime = len(body), int(file.mode, 8), 1_700_000_000
            user, _, group = file.owner.partition(":")
            entry.uname, entry.gname = user, group or user
            archive.addfile(entry, io.BytesIO(body))
    return made.getvalue()


def _customize(recipe: Recipe, scratch: Path) -> str:
    """The script that mmdebstrap runs when all packages are there; $1 is the tree."""
    lines = [
        "#!/bin/sh",
        "set -e",
        'inside() { chroot "$root" "$@"; }',
        "root=$1",
    ]
    for user in recipe.users:
        lines.append(
            f"inside id {user.name} >/dev/null 2>&1 || inside useradd -m -s {shlex.quote(user.shell)} {user.name}"
        )
        if user.password is not None:
            lines.append(f'echo {shlex.quote(f"{user.name}:{user.password}")} | chroot "$root" chpasswd -e')
        lines += [f"inside usermod -a -G {group} {user.name}" for group in user.groups]
        if user.sudo:
            rule = shlex.quote(f"{user.name} ALL=(ALL) NOPASSWD:ALL")
            place = f'"$root"/etc/sudoers.d/90-{user.name}'
            lines += [f"echo {rule} >{place}", f"chmod 440 {place}"]
        if user.ssh_keys:
            keys = "\n".join(user.ssh_keys)
            script = f"umask 77; mkdir -p ~{user.name}/.ssh; cat >~{user.name}/.ssh/authorized_keys; chown -R {user.name}: ~{user.name}/.ssh"
            lines.append(f'echo {shlex.quote(keys)} | chroot "$root" sh -c {shlex.quote(script)}')
    # Directories of files keep what they have; links are followed inside the image.
    lines.append(
        f"inside tar -C / --no-overwrite-dir --keep-directory-symlink -xf - <{scratch}/files.tar"
        if not recipe.archived
        else f"inside tar -C / -xf - <{scratch}/files.tar"
    )
    if recipe.cloud == "agent":
        lines.append("inside /usr/lib/stackling-agent/install")
    elif recipe.cloud == "none":  # then nobody else would make the keys that are removed below
        lines.append(
            'if [ -x "$root/usr/bin/ssh-keygen" ] && [ -d "$root/lib/systemd/system" ]; then '
            f'echo {shlex.quote(_HOST_KEYS)} >"$root/etc/systemd/system/ssh-host-keys.service"; '
            "inside systemctl -q enable ssh-host-keys.service; fi"
        )
    for command in recipe.commands:
        lines += [
            f"echo {shlex.quote('+ ' + command.strip().splitlines()[0][:120])}",
            f"inside /bin/sh -ec {shlex.quote(command)}",
        ]
    lines += [
        # Each machine makes its own identity.
        'rm -f "$root"/etc/ssh/ssh_host_*_key*',
        '[ ! -e "$root/etc/machine-id" ] || : >"$root/etc/machine-id"',
        'rm -f "$root"/var/lib/dbus/machine-id "$root"/var/lib/systemd/random-seed',
        'find "$root/var/log" -type f -exec truncate -s 0 {} +',
        *(f'rm -f "$root"{place}' for place in _SCAFFOLD),
        '! [ -e "$root/etc/dpkg/dpkg.cfg.d/99mmdebstrap" ] || sed -i /unsafe-io/d "$root/etc/dpkg/dpkg.cfg.d/99mmdebstrap"',
        "exit 0",
    ]
    return "\n".join(lines) + "\n"
