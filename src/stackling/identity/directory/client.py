"""Asking one directory, by python-ldap: the binding that OpenLDAP's own library has, kept well, in Debian.

Every question ends after seconds whatever the server does. Whatever stands in a filter was escaped.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from msgspec import Struct

from stackling.base import log
from stackling.base.directory import Directory
from stackling.identity.directory.connection import ANSWER, Down, connected, refusal
from stackling.identity.directory.value import (
    Attributes,
    equals,
    is_unique,
    naming_context,
    one_spelling,
    pairs,
    text,
)

MOST = 200_000  # entries of one search
_IN_CHAIN = "1.2.840.113556.1.4.1941"  # Active Directory's LDAP_MATCHING_RULE_IN_CHAIN
_RANGE = ";range="  # how Active Directory marks an attribute of which it gave some values
_TRUE = ("true", "1", "yes", "t", "y", "on")


class User(Struct, frozen=True):
    """A user as the directory has him."""

    local_id: str
    dn: str
    name: str
    enabled: bool
    default_project_id: str | None
    extra: dict[str, str]


class Group(Struct, frozen=True):
    """A group. `members`, where they were asked for, are the keys (see `Client.key`) of its direct members."""

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

    def everything(self) -> tuple[list[User], list[Group], dict[str, list[str]]]:
        """All users, all groups, and who is in which: users' local ids by the group's."""
        with connected(self.options) as c:
            users, groups = self._users(c, ""), self._groups(c, "", members=not self._nests)
            within = self._nested(c, groups) if self._nests else {g.local_id: g.members for g in groups}
        by_key = {self.key(one): one.local_id for one in users}
        return users, groups, {id: [by_key[m] for m in keys if m in by_key] for id, keys in within.items()}

    def user(
        self, *, local_id: str | None = None, name: str | None = None
    ) -> tuple[User | None, list[Group]]:
        """The one user with that id or name, and his groups; None when there is none or, of a name, more than one."""
        with connected(self.options) as c:
            found = self._user(c, local_id, name)
            return found, self._groups_of(c, found) if found is not None else []

    def login(
        self, password: str, *, local_id: str | None = None, name: str | None = None
    ) -> tuple[User | None, list[Group], str | None]:
        """The user and his groups, and why his password is refused; None: it is right."""
        with connected(self.options) as c:
            found = self._user(c, local_id, name)
            # Nobody's password is asked for as well, so that time does not tell who there is.
            dn = found.dn if found is not None else f"cn=nobody,{self.user_tree}"
            refused = refusal(self.options, dn, password)
            groups = self._groups_of(c, found) if found is not None and refused is None else []
            return found, groups, refused

    def group(self, *, local_id: str | None = None, name: str | None = None) -> Group | None:
        """The one group with that id or name, without its members."""
        attribute = self.options.group_id_attribute if name is None else self.options.group_name_attribute
        where = equals(attribute, (local_id if name is None else name) or "")
        with connected(self.options) as c:
            return _one(self._groups(c, where))

    def key(self, user: User) -> str:
        """What groups call a user: his id, or his DN in one spelling."""
        return user.local_id if self.options.group_members_are_ids else one_spelling(user.dn)

    @property
    def _nests(self) -> bool:
        return self.options.group_ad_nesting and not self.options.group_members_are_ids

    # -- searches -------------------------------------------------------------------------------------------------

    def _user(self, c: Any, local_id: str | None, name: str | None) -> User | None:
        attribute = self.options.user_id_attribute if name is None else self.options.user_name_attribute
        return _one(self._users(c, equals(attribute, (local_id if name is None else name) or "")))

    def _users(self, c: Any, where: str) -> list[User]:
        o = self.options
        enabled = self._enabled(c)
        more = pairs(o.user_additional_attribute_mapping)
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
            local_id, name = text(values, o.user_id_attribute), text(values, o.user_name_attribute)
            if not local_id or not name or len(name) > 255 or not name.strip() or len(local_id) > 255:
                continue
            shown = {n: said for n, a in kept.items() if (said := text(values, a))}
            is_on = self._is_enabled(values) if enabled is None else False
            one = User(local_id, dn, name, is_on, shown.pop("default_project_id", None), shown)
            if enabled is not None:
                key = local_id if self._emulates_ids() else one_spelling(dn)
                one = User(one.local_id, dn, name, key in enabled, one.default_project_id, one.extra)
            made.append(one)
        return made

    def _groups_of(self, c: Any, user: User) -> list[Group]:
        from ldap.filter import escape_filter_chars

        rule = f":{_IN_CHAIN}:" if self._nests else ""
        who = user.local_id if self.options.group_members_are_ids else user.dn
        return self._groups(c, f"({self.options.group_member_attribute}{rule}={escape_filter_chars(who)})")

    def _groups(self, c: Any, where: str, *, members: bool = False) -> list[Group]:
        o = self.options
        more = pairs(o.group_additional_attribute_mapping)
        ignored = {n.lower() for n in o.group_attribute_ignore}
        kept = {shown: a for a, shown in more if shown not in ignored and a.lower() not in ignored}
        asked = [
            o.group_id_attribute,
            o.group_name_attribute,
            o.group_desc_attribute,
            *([o.group_member_attribute] if members else []),
            *kept.values(),
        ]
        made = []
        found = self._search(
            c, self.group_tree, o.group_objectclass, o.group_filter, where, asked, o.group_id_attribute
        )
        for dn, values in found:
            local_id, name = text(values, o.group_id_attribute), text(values, o.group_name_attribute)
            if not local_id or not name or len(name) > 255 or not name.strip() or len(local_id) > 255:
                continue
            says = "" if "description" in ignored else text(values, o.group_desc_attribute) or ""
            extra = {n: said for n, a in kept.items() if (said := text(values, a))}
            made.append(Group(local_id, dn, name, says, extra, self._members(values)))
        return made

    def _members(self, values: Attributes) -> frozenset[str]:
        spelled = (lambda said: said) if self.options.group_members_are_ids else one_spelling
        said = (
            v.decode(errors="replace") for v in values.get(self.options.group_member_attribute.lower(), [])
        )
        return frozenset(map(spelled, said))

    def _nested(self, c: Any, groups: list[Group]) -> dict[str, set[str]]:
        """Everybody in the groups by their local ids, with those in groups in them, as the server's rule has it.

        Groups of the whole domain are looked through, as one outside the groups' tree may stand between two in it;
        asking the server for each group or user would take minutes.
        """
        import ldap

        o = self.options
        kind = f"(objectClass={o.group_objectclass})"
        found = self._ask(
            c, naming_context(self.group_tree), ldap.SCOPE_SUBTREE, kind, [o.group_member_attribute]
        )
        direct = {one_spelling(dn): self._members(values) for dn, values in found}
        within: dict[str, set[str]] = {}
        for group in groups:
            seen = set(direct.get(one_spelling(group.dn), ()))
            left = list(seen)
            while left:
                fresh = direct.get(left.pop(), frozenset()) - seen
                seen |= fresh
                left += fresh
            within[group.local_id] = seen
        return within

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
        said = text(values, o.user_enabled_attribute)
        said = str(o.user_enabled_default) if said is None else said
        if o.user_enabled_mask:
            try:
                return int(said) & o.user_enabled_mask != o.user_enabled_mask
            except ValueError:
                return False
        return (said.strip().lower() in _TRUE) is not o.user_enabled_invert

    def _search(
        self,
        c: Any,
        tree: str,
        kind: str,
        own: str | None,
        where: str,
        asked: Iterable[str],
        id_attribute: str,
    ) -> list[tuple[str, Attributes]]:
        """Entries with an id of their own: those that share one can't be told from one another, so they are nobody."""
        import ldap

        one_level = self.options.query_scope == "one"
        scope = ldap.SCOPE_ONELEVEL if one_level else ldap.SCOPE_SUBTREE
        every = f"(&(objectClass={kind}){own or ''}({id_attribute}=*)"
        found = self._ask(c, tree, scope, f"{every}{where})", sorted(set(asked)))
        if is_unique(id_attribute) or not found:
            return found
        if one_level and all(dn.lower().startswith(f"{id_attribute.lower()}=") for dn, _ in found):
            return found
        same = found
        if where:
            ids = {said for _, values in found if (said := text(values, id_attribute))}
            anyone = "".join(equals(id_attribute, said) for said in sorted(ids))
            same = self._ask(c, tree, scope, f"{every}(|{anyone}))", [id_attribute])
        counted = Counter((text(values, id_attribute) or "").casefold() for _, values in same)
        twice = {said for said, count in counted.items() if count > 1}
        for said in sorted(twice):
            log.get("identity").warning("directory.same_id", attribute=id_attribute, value=said, tree=tree)
        return [one for one in found if (text(one[1], id_attribute) or "").casefold() not in twice]

    def _ask(
        self, c: Any, base: str, scope: int, filter: str, asked: list[str]
    ) -> list[tuple[str, Attributes]]:
        """Entries with their attributes by name in lower case, all values of them."""
        found = list(self._pages(c, base, scope, filter, asked))
        for dn, values in found:
            for name in [n for n in values if _RANGE in n]:
                self._complete(c, dn, values, name)
        return found

    def _complete(self, c: Any, dn: str, values: Attributes, name: str) -> None:
        """Have all values of an attribute of which the server gave some: `member;range=0-1499`, and on from there."""
        import ldap

        attribute = name.partition(_RANGE)[0]
        whole = values.pop(attribute, [])  # it stands there as well, empty
        part = values.pop(name)
        while True:
            whole += part
            last = name.rpartition("-")[2]
            if last == "*":
                break
            rest: Attributes = {}
            if last.isdigit() and len(whole) <= MOST:
                wanted = f"{attribute}{_RANGE}{int(last) + 1}-*"
                _, rest = next(self._pages(c, dn, ldap.SCOPE_BASE, "(objectClass=*)", [wanted]), ("", rest))
            found = next((n for n in rest if n.startswith(attribute + _RANGE)), None)
            if found is None:
                raise Down(f"{dn}: values of {attribute} after {last} can't be had")
            name, part = found, rest[found]
        values[attribute] = whole

    def _pages(
        self, c: Any, base: str, scope: int, filter: str, asked: list[str]
    ) -> Iterator[tuple[str, Attributes]]:
        """Page by page where the options say so."""
        import ldap
        from ldap.controls import SimplePagedResultsControl

        page = SimplePagedResultsControl(True, size=self.options.page_size, cookie="")
        count = 0
        while True:
            controls = [page] if self.options.page_size else []
            asking = c.search_ext(base, scope, filter, asked, serverctrls=controls, timeout=ANSWER)
            _, data, _, answered = c.result3(asking, timeout=ANSWER)
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


def _one(found: list[Any]) -> Any:
    return found[0] if len(found) == 1 else None
