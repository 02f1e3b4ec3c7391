"""Asking one directory, by python-ldap: the binding that OpenLDAP's own library has, kept well, in Debian.

Every question has a connection of its own, and ends after seconds whatever the server does. Whatever stands in a
filter was escaped.
"""

import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from msgspec import Struct

from stackling.base import log
from stackling.base.directory import Directory

PATIENCE = 5  # seconds for a connection
SEARCH = 15  # seconds for an answer
MOST = 200_000  # entries of one search
_IN_CHAIN = "1.2.840.113556.1.4.1941"  # Active Directory's LDAP_MATCHING_RULE_IN_CHAIN
_TRUE = ("true", "1", "yes", "t", "y", "on")

Attributes = dict[str, list[bytes]]


class Down(Exception):
    """The directory can't be asked, or doesn't answer as it should; the text says why, for the log."""


class User(Struct, frozen=True):
    """A user as the directory has him."""

    local_id: str
    dn: str
    name: str
    enabled: bool
    default_project_id: str | None
    extra: dict[str, str]


class Group(Struct, frozen=True):
    """A group. `members` are the keys (see `Client.key`) of its direct members."""

    local_id: str
    dn: str
    name: str
    description: str
    extra: dict[str, str]
    members: frozenset[str]


class Client:
    """One directory. All methods raise Down when it can't be asked."""

    def __init__(self, options: Directory) -> None:
        self.options = options
        self.user_tree = options.user_tree_dn or f"ou=Users,{options.suffix}"
        self.group_tree = options.group_tree_dn or f"ou=UserGroups,{options.suffix}"

    # -- questions ------------------------------------------------------------------------------------------------

    def users(self) -> list[User]:
        with self._connected() as c:
            enabled = self._enabled(c)
            return self._users(c, "", enabled)

    def user(self, *, local_id: str | None = None, name: str | None = None) -> User | None:
        """The one user with that id or name; None when there is none or, of a name, more than one."""
        attribute = self.options.user_id_attribute if name is None else self.options.user_name_attribute
        with self._connected() as c:
            return self._one(
                self._users(c, _equals(attribute, local_id if name is None else name), self._enabled(c))
            )

    def groups(self) -> list[Group]:
        with self._connected() as c:
            return self._groups(c, "")

    def groups_of(self, user: User) -> list[Group]:
        """The groups that a user is in."""
        from ldap.filter import escape_filter_chars

        o = self.options
        rule = f":{_IN_CHAIN}:" if o.group_ad_nesting and not o.group_members_are_ids else ""
        who = user.local_id if o.group_members_are_ids else user.dn
        with self._connected() as c:
            return self._groups(c, f"({o.group_member_attribute}{rule}={escape_filter_chars(who)})")

    def group(self, *, local_id: str | None = None, name: str | None = None) -> Group | None:
        attribute = self.options.group_id_attribute if name is None else self.options.group_name_attribute
        with self._connected() as c:
            return self._one(self._groups(c, _equals(attribute, local_id if name is None else name)))

    def accepts(self, dn: str, password: str) -> bool:
        """Whether the directory lets `dn` in with that password. An empty one proves nothing, whatever it says."""
        import ldap

        if not dn or not password or "\0" in password:
            return False
        with self._connected(anonymous=True) as c:
            try:
                c.simple_bind_s(dn, password)
            except (
                ldap.INVALID_CREDENTIALS,
                ldap.UNWILLING_TO_PERFORM,
                ldap.INAPPROPRIATE_AUTH,
                ldap.INSUFFICIENT_ACCESS,
                ldap.CONSTRAINT_VIOLATION,
                ldap.INVALID_DN_SYNTAX,
                ldap.NO_SUCH_OBJECT,
            ):
                return False
            return True

    def key(self, user: User) -> str:
        """What groups call a user: his id, or his DN in one spelling."""
        return user.local_id if self.options.group_members_are_ids else one_spelling(user.dn)

    # -- searches -------------------------------------------------------------------------------------------------

    def _users(self, c: Any, where: str, enabled: frozenset[str] | None) -> list[User]:
        o = self.options
        more = _pairs(o.user_additional_attribute_mapping)
        wanted = {
            "default_project_id": o.user_default_project_id_attribute,
            "description": o.user_description_attribute,
            "email": o.user_mail_attribute,
            **{shown: source for source, shown in more},
        }
        ignored = {n.lower() for n in o.user_attribute_ignore}
        # An ignored attribute is left out under its own name or the name it would be shown by.
        kept = {n: a for n, a in wanted.items() if a and n not in ignored and a.lower() not in ignored}
        asked = [o.user_id_attribute, o.user_name_attribute, o.user_enabled_attribute, *kept.values()]
        made = []
        found = self._search(
            c, self.user_tree, o.user_objectclass, o.user_filter, where, asked, o.user_id_attribute
        )
        for dn, values in found:
            local_id, name = _id(values, o.user_id_attribute), _text(values, o.user_name_attribute)
            if not local_id or not name or len(name) > 255 or not name.strip() or len(local_id) > 255:
                continue
            shown = {n: text for n, a in kept.items() if (text := _text(values, a))}
            is_on = self._is_enabled(values) if enabled is None else False
            one = User(local_id, dn, name, is_on, shown.pop("default_project_id", None), shown)
            if enabled is not None:
                key = local_id if self._emulates_ids() else one_spelling(dn)
                one = User(one.local_id, dn, name, key in enabled, one.default_project_id, one.extra)
            made.append(one)
        return made

    def _groups(self, c: Any, where: str) -> list[Group]:
        o = self.options
        more = _pairs(o.group_additional_attribute_mapping)
        ignored = {n.lower() for n in o.group_attribute_ignore}
        kept = {shown: a for a, shown in more if shown not in ignored and a.lower() not in ignored}
        asked = [
            o.group_id_attribute,
            o.group_name_attribute,
            o.group_desc_attribute,
            o.group_member_attribute,
            *kept.values(),
        ]
        made = []
        found = self._search(
            c, self.group_tree, o.group_objectclass, o.group_filter, where, asked, o.group_id_attribute
        )
        for dn, values in found:
            local_id, name = _id(values, o.group_id_attribute), _text(values, o.group_name_attribute)
            if not local_id or not name or len(name) > 255 or not name.strip() or len(local_id) > 255:
                continue
            says = "" if "description" in ignored else _text(values, o.group_desc_attribute) or ""
            extra = {n: text for n, a in kept.items() if (text := _text(values, a))}
            made.append(
                Group(local_id, dn, name, says, extra, self._members(values, o.group_member_attribute))
            )
        return made

    def _members(self, values: Attributes, attribute: str) -> frozenset[str]:
        spelled = (lambda text: text) if self.options.group_members_are_ids else one_spelling
        texts = (v.decode(errors="replace") for v in values.get(attribute.lower(), []))
        return frozenset(spelled(text) for text in texts)

    def _emulates_ids(self) -> bool:
        return self.options.user_enabled_emulation_use_group_config and self.options.group_members_are_ids

    def _enabled(self, c: Any) -> frozenset[str] | None:
        """The members of the group that makes users enabled; None where an attribute says so."""
        import ldap

        o = self.options
        if not o.user_enabled_emulation:
            return None
        dn = o.user_enabled_emulation_dn or f"cn=enabled_users,{self.user_tree}"
        attribute = o.group_member_attribute if o.user_enabled_emulation_use_group_config else "member"
        found = self._ask(c, dn, ldap.SCOPE_BASE, "(objectClass=*)", [attribute])
        texts = {v.decode(errors="replace") for _, values in found for v in values.get(attribute.lower(), [])}
        return frozenset(texts if self._emulates_ids() else {one_spelling(t) for t in texts})

    def _is_enabled(self, values: Attributes) -> bool:
        o = self.options
        if "enabled" in {n.lower() for n in o.user_attribute_ignore}:
            return True
        text = _text(values, o.user_enabled_attribute)
        text = o.user_enabled_default if text is None else text
        if o.user_enabled_mask:
            try:
                return int(text) & o.user_enabled_mask != o.user_enabled_mask
            except ValueError:
                return False
        return (text.strip().lower() in _TRUE) is not o.user_enabled_invert

    def _one(self, found: list[Any]) -> Any:
        return found[0] if len(found) == 1 else None

    def _search(
        self,
        c: Any,
        tree: str,
        kind: str,
        own: str | None,
        where: str,
        asked: Iterable[str],
        id_attribute: str,
    ) -> Iterator[tuple[str, Attributes]]:
        import ldap

        scope = ldap.SCOPE_ONELEVEL if self.options.query_scope == "one" else ldap.SCOPE_SUBTREE
        text = f"(&(objectClass={kind}){own or ''}({id_attribute}=*){where})"
        return self._ask(c, tree, scope, text, sorted(set(asked)))

    def _ask(
        self, c: Any, base: str, scope: int, text: str, asked: list[str]
    ) -> Iterator[tuple[str, Attributes]]:
        """Entries with their attributes by name in lower case, page by page where the options say so."""
        import ldap
        from ldap.controls import SimplePagedResultsControl

        page = SimplePagedResultsControl(True, size=self.options.page_size, cookie="")
        count = 0
        while True:
            controls = [page] if self.options.page_size else []
            asking = c.search_ext(base, scope, text, asked, serverctrls=controls, timeout=SEARCH)
            _, data, _, answered = c.result3(asking, timeout=SEARCH)
            for dn, values in data:
                if dn is None:
                    continue  # a referral
                count += 1
                yield dn, {name.lower().partition(";binary")[0]: v for name, v in values.items()}
            cookies = [a.cookie for a in answered if a.controlType == ldap.CONTROL_PAGEDRESULTS]
            if not self.options.page_size or not cookies or not cookies[0]:
                return
            if count > MOST:
                raise Down(f"more than {MOST} entries")
            page.cookie = cookies[0]

    # -- connections ----------------------------------------------------------------------------------------------

    @contextmanager
    def _connected(self, *, anonymous: bool = False) -> Iterator[Any]:
        """A connection, bound as the one who searches. Errors of the directory become Down."""
        try:
            import ldap
        except ImportError:
            raise Down("Debian's package python3-ldap is not installed") from None
        connection = None
        try:
            connection = self._connect(ldap)
            if not anonymous and self.options.user:
                if not self.options.password:
                    raise Down("ldap.password is missing: a bind without one would be anonymous")
                connection.simple_bind_s(self.options.user, self.options.password)
            yield connection
        except ldap.LDAPError as e:
            raise Down(_why(e)) from None
        finally:
            if connection is not None:
                try:
                    connection.unbind_ext_s()
                except ldap.LDAPError as e:
                    log.get("identity").debug("directory.unbind", error=_why(e))

    def _connect(self, ldap: Any) -> Any:
        o = self.options
        c = ldap.initialize(o.url.replace(",", " "), bytes_mode=False)
        c.set_option(ldap.OPT_PROTOCOL_VERSION, ldap.VERSION3)
        c.set_option(
            ldap.OPT_NETWORK_TIMEOUT, o.pool_connection_timeout if o.pool_connection_timeout > 0 else PATIENCE
        )
        c.set_option(ldap.OPT_TIMEOUT, SEARCH)
        c.set_option(ldap.OPT_REFERRALS, 1 if o.chase_referrals else 0)
        if o.alias_dereferencing != "default":
            c.set_option(ldap.OPT_DEREF, getattr(ldap, f"DEREF_{o.alias_dereferencing.upper()}"))
        if o.use_tls or "ldaps://" in o.url:
            for name, place in (("CACERTFILE", o.tls_cacertfile), ("CACERTDIR", o.tls_cacertdir)):
                if place:
                    if not os.path.exists(place):
                        raise Down(f"ldap.tls_{name.lower()}: there is no {place}")
                    c.set_option(getattr(ldap, f"OPT_X_TLS_{name}"), place)
            c.set_option(ldap.OPT_X_TLS_REQUIRE_CERT, getattr(ldap, f"OPT_X_TLS_{o.tls_req_cert.upper()}"))
            c.set_option(ldap.OPT_X_TLS_NEWCTX, 0)  # what was set counts from here on
        if o.use_tls:
            c.start_tls_s()
        return c


def one_spelling(dn: str) -> str:
    """A DN as it is compared: attributes and values in lower case, without spaces that don't count."""
    import ldap
    import ldap.dn

    try:
        parts = ldap.dn.str2dn(dn)
    except (ldap.LDAPError, ValueError):
        return dn.lower()
    return ",".join(
        "+".join(sorted(f"{a.lower()}={' '.join(v.lower().split())!r}" for a, v, _ in rdn)) for rdn in parts
    )


def _equals(attribute: str, value: str | None) -> str:
    from ldap.filter import escape_filter_chars

    if attribute.lower() == "objectguid":
        try:
            raw = uuid.UUID(value).bytes_le
        except ValueError:
            raw = b"\0"
        return f"({attribute}={''.join(f'{chr(92)}{byte:02x}' for byte in raw)})"
    return f"({attribute}={escape_filter_chars(value or '')})"


def _id(values: Attributes, attribute: str) -> str | None:
    """The id attribute's value; Active Directory's objectGUID as the UUID that it is."""
    found = values.get(attribute.lower())
    if found and attribute.lower() == "objectguid" and len(found[0]) == 16:
        return str(uuid.UUID(bytes_le=found[0]))
    return _text(values, attribute)


def _text(values: Attributes, attribute: str) -> str | None:
    found = values.get(attribute.lower())
    try:
        return found[0].decode().replace("\0", "") if found else None
    except UnicodeDecodeError:
        return None


def _pairs(mapping: Iterable[str]) -> list[tuple[str, str]]:
    return [(source, shown) for source, _, shown in (one.partition(":") for one in mapping)]


def _why(error: Exception) -> str:
    """What the library says, without what was sent."""
    told = error.args[0] if error.args else {}
    if not isinstance(told, dict):
        return type(error).__name__
    return " ".join(str(told[k]) for k in ("desc", "info") if told.get(k)) or type(error).__name__
