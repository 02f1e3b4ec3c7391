"""The options of a directory (LDAP, Active Directory) that holds a domain's users, under Keystone's names."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

Text = str | None
Count = Annotated[int, Meta(ge=0)]


def _says(text: str) -> Meta:
    return Meta(description=text)


class Directory(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """How to read one directory. Lists of attributes can't be changed once made: they are tuples."""

    url: Annotated[str, _says("ldap:// or ldaps:// URL; several, tried in turn, with commas between.")] = (
        "ldap://localhost"
    )
    randomize_urls: Annotated[
        bool, _says("Try several URLs in any order, so that servers share the work.")
    ] = False
    user: Annotated[
        Text,
        _says("DN that searches are made as; Active Directory takes name@domain too. None: anonymous."),
    ] = None
    password: Annotated[Text, _says("Its password; shown to nobody.")] = None
    suffix: Annotated[str, _says("DN below which users and groups are looked for unless told otherwise.")] = (
        "cn=example,cn=com"
    )
    query_scope: Annotated[
        Literal["one", "sub"], _says("Look one level below the tree's DN, or all the way down.")
    ] = "one"
    page_size: Annotated[
        Count, _says("Entries a page of a search; 0: no pages. Active Directory wants some.")
    ] = 0
    alias_dereferencing: Annotated[
        Literal["never", "searching", "always", "finding", "default"], _says("When aliases are followed.")
    ] = "default"
    debug_level: Annotated[int | None, _says("Without effect.")] = None
    chase_referrals: Annotated[
        bool | None, _says("Follow referrals to other servers. None: no, as they would be asked anonymously.")
    ] = None
    user_tree_dn: Annotated[Text, _says("Where users are. None: ou=Users below the suffix.")] = None
    user_filter: Annotated[Text, _says("LDAP filter that users match besides their class.")] = None
    user_objectclass: Annotated[str, _says("Class of users.")] = "inetOrgPerson"
    user_id_attribute: Annotated[str, _says("Attribute that never changes; a user's id is made from it.")] = (
        "cn"
    )
    user_name_attribute: Annotated[str, _says("Attribute that a user logs in with.")] = "sn"
    user_description_attribute: Annotated[str, _says("Attribute shown as a user's description.")] = (
        "description"
    )
    user_mail_attribute: Annotated[str, _says("Attribute shown as email.")] = "mail"
    user_pass_attribute: Annotated[str, _says("Never read: passwords are proven by binding.")] = (
        "userPassword"
    )
    user_enabled_attribute: Annotated[str, _says("Attribute that says whether a user is enabled.")] = (
        "enabled"
    )
    user_enabled_invert: Annotated[bool, _says("That attribute says whether he is disabled.")] = False
    user_enabled_mask: Annotated[
        Count, _says("Bit of that attribute that says he is disabled (2 for userAccountControl); 0: no bits.")
    ] = 0
    user_enabled_default: Annotated[
        str | int | bool, _says("Value where that attribute is missing (512 with a mask).")
    ] = "True"
    user_attribute_ignore: Annotated[tuple[str, ...], _says("Attributes of users that aren't read.")] = (
        "default_project_id",
    )
    user_default_project_id_attribute: Annotated[Text, _says("Attribute with a user's default project.")] = (
        None
    )
    user_enabled_emulation: Annotated[bool, _says("Users are enabled who are members of one group.")] = False
    user_enabled_emulation_dn: Annotated[
        Text, _says("That group. None: cn=enabled_users in the users' tree.")
    ] = None
    user_enabled_emulation_use_group_config: Annotated[
        bool, _says("That group names members like other groups do, not by `member`.")
    ] = False
    user_additional_attribute_mapping: Annotated[
        tuple[str, ...], _says("More attributes to show: `ldap_attribute:user_attribute`.")
    ] = ()
    group_tree_dn: Annotated[Text, _says("Where groups are. None: ou=UserGroups below the suffix.")] = None
    group_filter: Annotated[Text, _says("LDAP filter that groups match besides their class.")] = None
    group_objectclass: Annotated[str, _says("Class of groups.")] = "groupOfNames"
    group_id_attribute: Annotated[str, _says("Attribute that never changes.")] = "cn"
    group_name_attribute: Annotated[str, _says("Attribute shown as a group's name.")] = "ou"
    group_members_are_ids: Annotated[bool, _says("Members are named by id (posixGroup), not by DN.")] = False
    group_member_attribute: Annotated[str, _says("Attribute that names members.")] = "member"
    group_desc_attribute: Annotated[str, _says("Attribute shown as a group's description.")] = "description"
    group_attribute_ignore: Annotated[tuple[str, ...], _says("Attributes of groups that aren't read.")] = ()
    group_additional_attribute_mapping: Annotated[
        tuple[str, ...], _says("More attributes to show: `ldap_attribute:group_attribute`.")
    ] = ()
    group_ad_nesting: Annotated[
        bool, _says("Members of groups in groups count (Active Directory's matching rule in chain).")
    ] = False
    tls_cacertfile: Annotated[Text, _says("File with the CA certificates to trust. None: the system's.")] = (
        None
    )
    tls_cacertdir: Annotated[Text, _says("Directory with CA certificates to trust.")] = None
    use_tls: Annotated[bool, _says("Start TLS on an ldap:// connection.")] = False
    tls_req_cert: Annotated[
        Literal["demand", "allow", "never"], _says("What happens without a certificate that can be trusted.")
    ] = "demand"
    connection_timeout: Annotated[int, _says("Seconds to wait for a connection; -1: 5.")] = -1
    use_pool: Annotated[bool, _says("Without effect, as are all `pool` options but one.")] = True
    pool_size: Annotated[Count, _says("Without effect: every question has a connection of its own.")] = 10
    pool_retry_max: Annotated[Count, _says("Without effect.")] = 3
    pool_retry_delay: Annotated[float, _says("Without effect.")] = 0.1
    pool_connection_timeout: Annotated[int, _says("The same, where connection_timeout is -1.")] = -1
    pool_connection_lifetime: Annotated[Count, _says("Without effect.")] = 600
    use_auth_pool: Annotated[bool, _says("Without effect.")] = True
    auth_pool_size: Annotated[Count, _says("Without effect.")] = 100
    auth_pool_connection_lifetime: Annotated[Count, _says("Without effect.")] = 60


class DomainDirectory(Directory, frozen=True):
    """A directory in the configuration file, and whose users it holds."""

    domain: Annotated[str, _says("Id or name of the domain whose users and groups it holds.")] = ""


def plain(options: Directory) -> dict[str, Any]:
    """All options by name, but for the password."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name in Directory.__struct_fields__
        if name != "password"
        for value in [getattr(options, name)]
    }
