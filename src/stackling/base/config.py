"""What an operator can set: one TOML file, typed, with overrides from the environment.

`STACKLING_API_PORT=9000` overrides `port` in `[api]`; values are read as TOML where they parse as such, else as
text. Lists of tables (external networks) are set in the file only. Every option carries its description, which
`stackling config` prints with the value in force and where it came from.
"""

import os
import tomllib
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct, field

from stackling.base.directory import DomainDirectory

Port = Annotated[int, Meta(ge=1, le=65535)]
Positive = Annotated[int, Meta(ge=1)]
Limit = Annotated[int, Meta(ge=-1)]


class ConfigError(Exception):
    """The configuration can't be used; the text names the option and says why."""


def _says(text: str) -> Meta:
    return Meta(description=text)


class Section(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """Base of the sections."""


class Paths(Section, frozen=True):
    state_dir: Annotated[str, _says("Everything that must survive: database, keys, images, disks.")] = (
        "/var/lib/stackling"
    )
    run_dir: Annotated[str, _says("Pid files, sockets and marks that a reboot may lose.")] = "/run/stackling"
    log_dir: Annotated[str, _says("Logs of the cloud's own processes.")] = "/var/log/stackling"
    config_dir: Annotated[str, _says("clouds.yaml, openrc, the admin's password and policy.yaml.")] = (
        "/etc/stackling"
    )


class Api(Section, frozen=True):
    listen: Annotated[str, _says("Address the API listens on. Loopback until told otherwise.")] = "127.0.0.1"
    port: Annotated[Port, _says("TCP port of the API; every service is a path below it.")] = 9500
    public_url: Annotated[
        str,
        _says(
            "URL under which clients reach the API, for catalog and links. Empty: made from listen and port."
        ),
    ] = ""
    tls: Annotated[bool, _says("Serve HTTPS with a certificate of the cloud's own CA.")] = False
    workers: Annotated[Positive, _says("API processes. More than one needs PostgreSQL.")] = 1
    threads: Annotated[Positive, _says("Threads a process that answer requests.")] = 16
    max_body_mib: Annotated[
        Positive, _says("Largest JSON body accepted, MiB. Image data is not counted.")
    ] = 1
    trusted_proxies: Annotated[
        list[str],
        _says(
            "Addresses or networks of reverse proxies whose X-Forwarded-For and client_certificate_header are believed."
        ),
    ] = field(default_factory=list)
    client_certificate_header: Annotated[
        str,
        _says(
            "Header in which those proxies pass on the TLS client certificate they checked, URL-encoded PEM or RFC 9440. Empty: none."
        ),
    ] = ""


class DatabaseOptions(Section, frozen=True):
    url: Annotated[
        str,
        _says(
            "SQLAlchemy URL. Empty: SQLite in the state directory. postgresql+psycopg://… for many machines, best without a pooler such as PgBouncer in between."
        ),
    ] = ""


class Log(Section, frozen=True):
    level: Annotated[
        typing.Literal["debug", "info", "warning", "error"], _says("The least severe that is logged.")
    ] = "info"
    requests: Annotated[
        bool, _says("One line a request with id, user, project, status and milliseconds.")
    ] = True


class Identity(Section, frozen=True):
    region: Annotated[
        str, Meta(min_length=1, max_length=255), _says("Name of the region in the catalog.")
    ] = "RegionOne"
    admin_name: Annotated[str, _says("Name of the first administrator.")] = "admin"
    token_lifetime: Annotated[Positive, _says("Seconds a token lives.")] = 3600
    token_provider: Annotated[
        typing.Literal["fernet", "jws"],
        _says("Form of new tokens; those of the other form stay valid until they expire."),
    ] = "fernet"
    fernet_keys: Annotated[
        Annotated[int, Meta(ge=3)],
        _says("Keys kept for tokens: the next, the primary, and old ones that still validate."),
    ] = 4
    allow_rescope_scoped_token: Annotated[
        bool, _says("A token with a scope may be exchanged for one with another.")
    ] = True
    key_rotation_hours: Annotated[
        int,
        Meta(ge=0),
        _says("Hours after which the keys of tokens and receipts are rotated; 0: by command only."),
    ] = 24
    logins_per_user: Annotated[
        int, Meta(ge=0), _says("Logins a minute for one user name, right or wrong; 0: any number.")
    ] = 0
    logins_per_address: Annotated[
        int, Meta(ge=0), _says("Logins a minute from one address (IPv6: /64); 0: any number.")
    ] = 0
    oauth2_methods: Annotated[
        list[typing.Literal["client_secret_basic", "tls_client_auth"]],
        _says("How OAuth2 clients may prove themselves."),
    ] = field(default_factory=lambda: ["client_secret_basic", "tls_client_auth"])
    oauth2_mapping: Annotated[
        str, _says("Mapping that says which user an OAuth2 client certificate belongs to.")
    ] = "oauth2_mapping"
    hash_memory_kib: Annotated[
        Annotated[int, Meta(ge=8192)],
        _says("argon2id memory for password hashes, KiB (OWASP: 12288 with 3 passes, or 19456 with 2)."),
    ] = 12288
    hash_passes: Annotated[Positive, _says("argon2id passes for password hashes.")] = 3
    lockout_failures: Annotated[
        int, Meta(ge=0), _says("Wrong passwords in a row that lock a user; 0: never.")
    ] = 0
    lockout_seconds: Annotated[Positive, _says("Seconds a user stays locked.")] = 1800
    password_history: Annotated[
        int,
        Meta(ge=0),
        _says(
            "Last passwords that a user may not choose again, the present one included; 0: any may be chosen."
        ),
    ] = 0
    password_days: Annotated[int, Meta(ge=0), _says("Days until a password must be changed; 0: never.")] = 0
    password_minimum_days: Annotated[
        int, Meta(ge=0), _says("Days before a user may change a password again.")
    ] = 0
    password_regex: Annotated[str, _says("Regular expression that new passwords match. Empty: any.")] = ""
    password_regex_description: Annotated[str, _says("What users are told that password_regex wants.")] = ""
    change_password_on_first_use: Annotated[
        bool, _says("Users must change passwords that an administrator set.")
    ] = False
    trusted_dashboards: Annotated[
        list[str],
        _says(
            "URLs to which a browser may be sent back with a token after logging in at an identity provider."
        ),
    ] = field(default_factory=list)
    limit_model: Annotated[
        typing.Literal["flat", "strict_two_level"],
        _says(
            "How limits relate: flat, or a domain's limit is the most that all of its projects have together."
        ),
    ] = "flat"
    disable_inactive_days: Annotated[
        int, Meta(ge=0), _says("Days without a login that lock a user out; 0: never.")
    ] = 0
    directories: Annotated[
        list[DomainDirectory],
        _says("Directories (LDAP) that hold users of domains; a domain's own configuration comes before."),
    ] = field(default_factory=list)
    directory_seconds: Annotated[
        Positive,
        _says("Seconds that what a directory said is believed; then tokens and lists ask it again."),
    ] = 60


class Audit(Section, frozen=True):
    days: Annotated[int, Meta(ge=0), _says("Days that audit events are kept; 0: none are recorded.")] = 90


class ImageStore(Section, frozen=True):
    name: Annotated[
        str,
        Meta(pattern=r"^(?!os_glance_)[a-z0-9][a-z0-9_-]{0,63}$"),
        _says("Name of the store; images that are in it keep naming it."),
    ] = "file"
    type: Annotated[
        typing.Literal["file", "http"],
        _says("file: a directory. http: read-only, images whose data stays at a URL of the user's."),
    ] = "file"
    directory: Annotated[
        str,
        _says(
            "Where a file store keeps its data. Empty: images-NAME in the state directory; images for the store `file`."
        ),
    ] = ""
    description: Annotated[str, _says("What users are told of the store.")] = ""
    weight: Annotated[
        int, Meta(ge=0), _says("An image that is in several stores is read from the heaviest.")
    ] = 0


class Image(Section, frozen=True):
    ready_image: Annotated[bool, _says("Build and register the ready image at first start.")] = True
    max_size_gib: Annotated[Positive, _says("Largest image accepted, GiB.")] = 64
    stores: Annotated[
        list[ImageStore], _says("Stores of image data. Tables `[[image.stores]]` in the file.")
    ] = field(
        default_factory=lambda: [
            ImageStore(description="The state directory", weight=100),
            ImageStore(name="spare", description="For copies; on the same disk they take no space"),
            ImageStore(name="web", type="http", description="Data that stays where it is on the web"),
        ]
    )
    default_store: Annotated[str, _says("Store of the data whose sender names none.")] = "file"
    show_multiple_locations: Annotated[
        bool, _says("Show an image's locations, and let them be changed where the policy allows.")
    ] = True
    do_secure_hash: Annotated[
        bool, _says("Read, hash and inspect what is at a URL that becomes an image's location.")
    ] = True
    web_download_allow: Annotated[
        list[str],
        _says(
            "Host names, addresses and networks that web-download may fetch from although they are private or on another port."
        ),
    ] = field(default_factory=list)
    web_download_ports: Annotated[
        list[Port],
        _says("Ports that web-download may fetch from; private addresses are refused all the same."),
    ] = field(default_factory=lambda: [80, 443])
    import_timeout: Annotated[Positive, _says("Seconds an image import may take.")] = 21600
    import_plugins: Annotated[
        list[typing.Literal["image_decompression", "image_conversion", "inject_image_metadata"]],
        _says("What is done to data that is imported."),
    ] = field(default_factory=list)
    conversion_format: Annotated[
        typing.Literal["qcow2", "raw"], _says("Disk format that image_conversion makes of others.")
    ] = "qcow2"
    inject_metadata: Annotated[
        dict[str, str], _says("Properties that inject_image_metadata sets on imported images.")
    ] = field(default_factory=dict)
    inject_ignore_roles: Annotated[
        list[str], _says("Roles whose imports inject_image_metadata leaves alone.")
    ] = field(default_factory=lambda: ["admin"])
    property_protection_file: Annotated[
        str, _says("File of rules that say who may create, read, update and delete which properties.")
    ] = ""
    property_protection_rule_format: Annotated[
        typing.Literal["roles", "policies"], _says("What the rules of that file name.")
    ] = "roles"
    certificates: Annotated[
        str,
        _says(
            "Directory of certificates (UUID.pem) that may sign images, besides the owners' credentials of type cert."
        ),
    ] = ""
    cache_interval: Annotated[
        Positive, _says("Seconds between looks at the images that a host has cached.")
    ] = 2400
    cache_unused_seconds: Annotated[
        Positive, _says("Seconds that a host keeps an image that no server there uses.")
    ] = 86400
    cache_max_gib: Annotated[
        int, Meta(ge=0), _says("GiB of unused images that a host keeps at most; 0: any.")
    ] = 0
    count_total: Annotated[Limit, _says("Quota: images of a project; -1 is no limit.")] = -1
    count_uploading: Annotated[
        Limit, _says("Quota: images of a project whose data is arriving or staged.")
    ] = -1
    size_total_mib: Annotated[
        Limit, _says("Quota: MiB of a project's images past which it may upload no more.")
    ] = -1
    stage_total_mib: Annotated[
        Limit, _says("Quota: MiB that a project staged past which it may stage no more.")
    ] = -1
    builds: Annotated[Limit, _says("Quota: builds of images a project may have at once; -1 is no limit.")] = 5
    build_schedules: Annotated[Limit, _says("Quota: schedules of builds of a project.")] = 10
    build_mirrors: Annotated[
        dict[str, str],
        _says("Package repositories used in place of a recipe's own: URI by URI. Images keep the recipe's."),
    ] = field(default_factory=dict)
    build_keyring: Annotated[
        str, _says("File of keys that packages may be signed with besides the recipe's. Empty: none.")
    ] = ""
    build_repositories: Annotated[
        list[str],
        _says(
            "URIs of package repositories that tenants' recipes may name, besides those of the shipped recipes and of"
            " `build_mirrors`."
        ),
    ] = field(default_factory=list)
    build_memory_mib: Annotated[
        int, Meta(ge=256), _says("MiB of memory that a virtual machine of a tenant's build has at most.")
    ] = 1024
    build_disk_gib: Annotated[
        Positive,
        _says(
            "GiB that the disk of a tenant's build may have. While it is made up to three times as much is taken."
        ),
    ] = 10
    build_minutes: Annotated[
        Positive, _says("Minutes that a tenant's build may take, its test included.")
    ] = 240
    build_cache_gib: Annotated[int, Meta(ge=0), _says("GiB of packages kept between builds at most.")] = 10


class Compute(Section, frozen=True):
    availability_zone: Annotated[str, _says("Zone of hosts that belong to no aggregate with one.")] = "nova"
    cpu_allocation_ratio: Annotated[float, Meta(gt=0), _says("Virtual CPUs a physical one is sold as.")] = (
        16.0
    )
    ram_allocation_ratio: Annotated[float, Meta(gt=0), _says("MiB sold per MiB of memory.")] = 1.0
    disk_allocation_ratio: Annotated[float, Meta(gt=0), _says("GiB sold per GiB of disk.")] = 1.0
    reserved_memory_mib: Annotated[int, Meta(ge=0), _says("Memory kept for the host itself, MiB.")] = 512
    boot_timeout: Annotated[Positive, _says("Seconds a server may take from creation to ACTIVE.")] = 300
    shutdown_timeout: Annotated[
        Positive, _says("Seconds a guest may take to power itself off before it is switched off.")
    ] = 60
    instances: Annotated[Limit, _says("Quota: servers of a project; -1 is no limit.")] = 10
    cores: Annotated[Limit, _says("Quota: virtual CPUs of a project.")] = 20
    ram_mib: Annotated[Limit, _says("Quota: memory of a project's servers, MiB.")] = 51200
    disk_gib: Annotated[Limit, _says("Quota: GiB of local disk of a project's servers.")] = -1
    key_pairs: Annotated[Limit, _says("Quota: key pairs of a user.")] = 100
    server_groups: Annotated[Limit, _says("Quota: server groups of a project.")] = 10
    server_group_members: Annotated[Limit, _says("Quota: servers of a server group.")] = 10
    metadata_items: Annotated[Limit, _says("Quota: metadata items of a server.")] = 128


class ExternalNetwork(Section, frozen=True):
    name: Annotated[
        str,
        Meta(pattern=r"^[a-zA-Z0-9_.-]{1,64}$"),
        _says("Name of the network, and of its physical network."),
    ] = "public"
    cidr: Annotated[str, _says("Its subnet.")] = "172.24.4.0/24"
    gateway: Annotated[str, _says("Gateway of the subnet; on one machine an address of the host itself.")] = (
        "172.24.4.1"
    )
    pool_start: Annotated[
        str, _says("First address given to routers and floating IPs. Empty: the first free of the subnet.")
    ] = ""
    pool_end: Annotated[str, _says("Last address given. Empty: the last of the subnet.")] = ""
    interface: Annotated[
        str, _says("Network card on that network. Empty: the host itself is the gateway.")
    ] = ""
    masquerade: Annotated[
        bool, _says("Let guests reach what the host reaches, behind the host's address.")
    ] = True
    vlan: Annotated[int, Meta(ge=0, le=4094), _says("VLAN tag on the card; 0 is untagged.")] = 0
    shared: Annotated[bool, _says("Let projects put servers on it directly.")] = False


class Network(Section, frozen=True):
    external: Annotated[list[ExternalNetwork], _says("External networks; the first is the default one.")] = (
        field(default_factory=lambda: [ExternalNetwork()])
    )
    mtu: Annotated[
        int,
        Meta(ge=1280, le=65535),
        _says("Largest packet of the underlay; tenants get 58 bytes less for Geneve."),
    ] = 1500
    dns_servers: Annotated[list[str], _says("Resolvers given to subnets that name none.")] = field(
        default_factory=list
    )
    ovn_northbound: Annotated[str, _says("OVN northbound database.")] = "unix:/run/ovn/ovnnb_db.sock"
    ovn_southbound: Annotated[str, _says("OVN southbound database.")] = "unix:/run/ovn/ovnsb_db.sock"
    networks: Annotated[Limit, _says("Quota: networks of a project; -1 is no limit.")] = 100
    subnets: Annotated[Limit, _says("Quota: subnets of a project.")] = 100
    ports: Annotated[Limit, _says("Quota: ports of a project.")] = 500
    routers: Annotated[Limit, _says("Quota: routers of a project.")] = 10
    floating_ips: Annotated[Limit, _says("Quota: floating IPs of a project.")] = 50
    security_groups: Annotated[Limit, _says("Quota: security groups of a project.")] = 100
    security_group_rules: Annotated[Limit, _says("Quota: security group rules of a project.")] = 1000
    subnet_pools: Annotated[Limit, _says("Quota: subnet pools of a project.")] = -1
    address_groups: Annotated[Limit, _says("Quota: address groups of a project.")] = -1
    rbac_policies: Annotated[Limit, _says("Quota: RBAC policies of a project.")] = 10


class Volume(Section, frozen=True):
    default_type: Annotated[str, _says("Name of the volume type that is used when none is named.")] = "local"
    format: Annotated[typing.Literal["qcow2", "raw"], _says("Format of volume files.")] = "qcow2"
    volumes: Annotated[Limit, _says("Quota: volumes of a project; -1 is no limit.")] = 10
    snapshots: Annotated[Limit, _says("Quota: volume snapshots of a project.")] = 10
    gigabytes: Annotated[Limit, _says("Quota: GiB of volumes and snapshots of a project.")] = 1000
    per_volume_gigabytes: Annotated[Limit, _says("Quota: GiB of one volume.")] = -1
    backups: Annotated[Limit, _says("Quota: backups of a project.")] = 10
    backup_gigabytes: Annotated[Limit, _says("Quota: GiB of backups of a project.")] = 1000
    groups: Annotated[Limit, _says("Quota: volume groups of a project.")] = 10


class StoragePolicy(Section, frozen=True):
    name: Annotated[
        str,
        Meta(pattern=r"^[A-Za-z0-9-]{1,64}$"),
        _says("Name under which containers ask for it; containers that are there keep naming it."),
    ] = "Policy-0"
    directory: Annotated[
        str,
        _says(
            "Where its data is kept. Empty: objects in the state directory, objects-NAME beyond the first."
        ),
    ] = ""


class ObjectStore(Section, frozen=True):
    policies: Annotated[
        list[StoragePolicy],
        Meta(min_length=1),
        _says("Storage policies, the default one first. Tables `[[objectstore.policies]]` in the file."),
    ] = field(default_factory=lambda: [StoragePolicy()])
    operator_roles: Annotated[
        list[str], _says("Roles in a project that may do everything in its account.")
    ] = field(default_factory=lambda: ["admin", "manager", "member"])
    reader_roles: Annotated[
        list[str], _says("Roles in a project that may read everything in its account.")
    ] = field(default_factory=lambda: ["reader"])
    reseller_roles: Annotated[
        list[str],
        _says("Roles that may do everything in every account: make and delete accounts, set their quotas."),
    ] = field(default_factory=lambda: ["ResellerAdmin", "admin"])
    max_object_gib: Annotated[
        Positive, _says("Largest object that is sent at once, GiB; larger ones are sent in segments.")
    ] = 5
    expirer_interval: Annotated[
        Positive, _says("Seconds between looks for objects that expired; they answer 404 at once.")
    ] = 30
    sweep_interval: Annotated[
        Positive,
        _says("Seconds between looks for data that no object has, of requests that were broken off."),
    ] = 3600
    cors_allow_origin: Annotated[
        list[str], _says("Origins whose pages may use every container, besides those that a container names.")
    ] = field(default_factory=list)


class Node(Section, frozen=True):
    hostname: Annotated[str, _says("Name of this host in the cloud. Empty: the machine's own.")] = ""
    accel: Annotated[
        typing.Literal["auto", "kvm", "tcg"],
        _says("How guests run; auto boots a probe to learn whether KVM works."),
    ] = "auto"
    agent_port: Annotated[
        Port,
        _says("TCP port on loopback where the host's agent serves the other API processes, with mutual TLS."),
    ] = 9501
    start_services: Annotated[bool, _says("Start Open vSwitch, OVN and libvirt where they don't run.")] = True


class Worker(Section, frozen=True):
    threads: Annotated[Positive, _says("Jobs worked on at once in a process.")] = 8


class Config(Section, frozen=True):
    """All options, by section."""

    paths: Paths = Paths()
    api: Api = Api()
    database: DatabaseOptions = DatabaseOptions()
    log: Log = Log()
    identity: Identity = Identity()
    audit: Audit = Audit()
    image: Image = Image()
    compute: Compute = Compute()
    network: Network = Network()
    volume: Volume = Volume()
    objectstore: ObjectStore = ObjectStore()
    node: Node = Node()
    worker: Worker = Worker()

    @property
    def base_url(self) -> str:
        """The URL of the API without a trailing slash."""
        if self.api.public_url:
            return self.api.public_url.rstrip("/")
        host = self.api.listen if self.api.listen not in ("0.0.0.0", "::") else "127.0.0.1"
        host = f"[{host}]" if ":" in host else host
        return f"{'https' if self.api.tls else 'http'}://{host}:{self.api.port}"

    @property
    def database_url(self) -> str:
        return self.database.url or f"sqlite:///{self.paths.state_dir}/state.db"


class Option(Struct, frozen=True):
    """One option as it is in force. `source` is `default`, the file's path, or the environment variable's name."""

    section: str
    name: str
    value: Any
    default: Any
    source: str
    says: str


def _describe(kind: Any) -> str:
    if typing.get_origin(kind) is typing.Annotated:
        base, *notes = typing.get_args(kind)
        own = next((m.description for m in notes if isinstance(m, Meta) and m.description), "")
        return own or _describe(base)
    return ""


def options(config: Config, sources: Mapping[str, str] | None = None) -> Iterator[Option]:
    """Every option of `config` with its description; `sources` as `load` returned them."""
    for section in msgspec.structs.fields(Config):
        values = getattr(config, section.name)
        hints = typing.get_type_hints(type(values), include_extras=True)
        plain = type(values)()
        for name, kind in hints.items():
            if name in type(values).__struct_fields__:
                where = (sources or {}).get(f"{section.name}.{name}", "default")
                yield Option(
                    section.name, name, getattr(values, name), getattr(plain, name), where, _describe(kind)
                )


def load(path: Path | None, environ: Mapping[str, str] | None = None) -> tuple[Config, dict[str, str]]:
    """The configuration in force and where each value that isn't the default came from (`section.option` → source).

    `path` may be absent. Raises ConfigError naming the option.
    """
    raw: dict[str, Any] = {}
    sources: dict[str, str] = {}
    if path and path.exists():
        try:
            raw = tomllib.loads(path.read_text())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
            raise ConfigError(f"{path}: {e}") from None
        for section, values in raw.items():
            if isinstance(values, dict):
                sources |= {f"{section}.{name}": str(path) for name in values}
    for section_field in msgspec.structs.fields(Config):
        section = section_field.name
        for name in section_field.type.__struct_fields__:
            variable = f"STACKLING_{section}_{name}".upper()
            text = (os.environ if environ is None else environ).get(variable)
            if text is not None:
                raw.setdefault(section, {})[name] = _value(text)
                sources[f"{section}.{name}"] = variable
    try:
        return msgspec.convert(raw, Config), sources
    except msgspec.ValidationError as e:
        where = str(e).rpartition(" - at `$.")[2].rstrip("`")
        raise ConfigError(f"{sources.get(where, path or 'configuration')}: {e}".replace("$.", "")) from None


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        return text


def fields_of(kind: type[Struct]) -> Iterator[tuple[str, str, Any]]:
    """Name, description and default of each option of a section or table."""
    plain = kind()
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        if name in kind.__struct_fields__:
            yield name, _describe(hint), getattr(plain, name)
