"""/v3/OS-FEDERATION: identity providers, protocols, mappings, service providers"""

from typing import Annotated, Any

import msgspec
from falcon import Request, Response
from msgspec import UNSET, Meta, UnsetType

from stackling.base import rest
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest
from stackling.identity import mapping as language
from stackling.identity.actions import federation as actions
from stackling.identity.api.catalog import Url
from stackling.identity.api.resource import Id, Resource, Truth, empty, filtered, given, lenient
from stackling.identity.state import federation as state

_ROOT = "/OS-FEDERATION"
RemoteId = Annotated[str, Meta(max_length=255)]


class _Strict(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    pass


def _words(change: dict[str, Any]) -> dict[str, Any]:
    return {k: lenient(v, k) if k == "enabled" else v for k, v in change.items()}


def _changed(change: dict[str, Any], key: str) -> dict[str, Any]:
    """Raises BadRequest when nothing is to change."""
    if not change:
        raise BadRequest(f"Invalid input for field/attribute {key}: nothing to change is named.")
    return change


def _id(text: str) -> str:
    if not 1 <= len(text) <= 64:
        raise BadRequest("Invalid input for field/attribute id: it has 1 to 64 characters")
    return text


# -- identity providers ------------------------------------------------------------------------------------------------


class Provider(_Strict):
    enabled: Truth | UnsetType = UNSET
    description: str | UnsetType | None = UNSET
    remote_ids: list[RemoteId] | UnsetType | None = UNSET
    authorization_ttl: Annotated[int, Meta(ge=0)] | UnsetType | None = UNSET
    domain_id: Id | UnsetType | None = UNSET


class _Providers(Resource):
    def shown(self, req: Request, tx: Tx, rows: list[Row]) -> list[dict[str, Any]]:
        remote = actions.remote_ids(tx, [r.id for r in rows])
        made = []
        for row in rows:
            one = self.linked(
                req,
                f"{_ROOT}/identity_providers/{row.id}",
                {
                    "id": row.id,
                    "domain_id": row.domain_id,
                    "enabled": row.enabled,
                    "description": row.description,
                    "remote_ids": remote[row.id],
                    "authorization_ttl": row.authorization_ttl,
                },
            )
            one["links"]["protocols"] = one["links"]["self"] + "/protocols"
            made.append(one)
        return made


class IdentityProviders(_Providers):
    """/v3/OS-FEDERATION/identity_providers"""

    def on_get(self, req: Request, resp: Response) -> None:
        with self.db.read() as tx:
            query = filtered(
                req, actions.providers(rest.caller(req)), state.identity_provider, "id", "enabled"
            )
            made = self.shown(req, tx, list(tx.execute(query)))
        resp.media = self.listed(req, "identity_providers", made)


class IdentityProvider(_Providers):
    """/v3/OS-FEDERATION/identity_providers/{idp_id}"""

    def on_get(self, req: Request, resp: Response, idp_id: str) -> None:
        with self.db.read() as tx:
            made = self.shown(req, tx, [actions.provider(tx, rest.caller(req), idp_id)])
        resp.media = {"identity_provider": made[0]}

    def on_put(self, req: Request, resp: Response, idp_id: str) -> None:
        want = _words(given(rest.body(req, Provider, key="identity_provider")))
        with self.db.begin() as tx:
            row = actions.create_provider(tx, rest.caller(req), _id(idp_id), want)
            made = self.shown(req, tx, [row])
        resp.status, resp.media = "201 Created", {"identity_provider": made[0]}

    def on_patch(self, req: Request, resp: Response, idp_id: str) -> None:
        change = _words(given(rest.body(req, Provider, key="identity_provider")))
        if not change or "domain_id" in change:
            raise BadRequest(
                "Invalid input for field/attribute identity_provider: domain_id can't be changed, and something must be."
            )
        with self.db.begin() as tx:
            row = actions.update_provider(tx, rest.caller(req), idp_id, change)
            made = self.shown(req, tx, [row])
        resp.media = {"identity_provider": made[0]}

    def on_delete(self, req: Request, resp: Response, idp_id: str) -> None:
        with self.db.begin() as tx:
            actions.delete_provider(tx, rest.caller(req), idp_id)
        empty(resp)


# -- protocols ---------------------------------------------------------------------------------------------------------


class NewProtocol(_Strict):
    mapping_id: Annotated[str, Meta(min_length=1, max_length=64)]
    remote_id_attribute: Annotated[str, Meta(max_length=64)] | None = None


class ChangedProtocol(_Strict):
    mapping_id: Annotated[str, Meta(min_length=1, max_length=64)] | UnsetType = UNSET
    remote_id_attribute: Annotated[str, Meta(max_length=64)] | UnsetType | None = UNSET


class _Protocols(Resource):
    def shown(self, req: Request, row: Row) -> dict[str, Any]:
        above = f"{_ROOT}/identity_providers/{row.idp_id}"
        made = {"id": row.id, "mapping_id": row.mapping_id, "remote_id_attribute": row.remote_id_attribute}
        made = self.linked(req, f"{above}/protocols/{row.id}", made)
        made["links"]["identity_provider"] = self.url(req, above)
        return made


class Protocols(_Protocols):
    """/v3/OS-FEDERATION/identity_providers/{idp_id}/protocols"""

    def on_get(self, req: Request, resp: Response, idp_id: str) -> None:
        with self.db.read() as tx:
            rows = tx.execute(actions.protocols(tx, rest.caller(req), idp_id)).all()
        resp.media = self.listed(req, "protocols", [self.shown(req, r) for r in rows])


class Protocol(_Protocols):
    """/v3/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}"""

    def on_get(self, req: Request, resp: Response, idp_id: str, protocol_id: str) -> None:
        with self.db.read() as tx:
            row = actions.get_protocol(tx, rest.caller(req), idp_id, protocol_id)
        resp.media = {"protocol": self.shown(req, row)}

    def on_put(self, req: Request, resp: Response, idp_id: str, protocol_id: str) -> None:
        want = msgspec.structs.asdict(rest.body(req, NewProtocol, key="protocol"))
        with self.db.begin() as tx:
            row = actions.create_protocol(tx, rest.caller(req), idp_id, _id(protocol_id), want)
        resp.status, resp.media = "201 Created", {"protocol": self.shown(req, row)}

    def on_patch(self, req: Request, resp: Response, idp_id: str, protocol_id: str) -> None:
        change = _changed(given(rest.body(req, ChangedProtocol, key="protocol")), "protocol")
        with self.db.begin() as tx:
            row = actions.update_protocol(tx, rest.caller(req), idp_id, protocol_id, change)
        resp.media = {"protocol": self.shown(req, row)}

    def on_delete(self, req: Request, resp: Response, idp_id: str, protocol_id: str) -> None:
        with self.db.begin() as tx:
            actions.delete_protocol(tx, rest.caller(req), idp_id, protocol_id)
        empty(resp)


# -- mappings ----------------------------------------------------------------------------------------------------------


class DomainRef(_Strict):
    id: str | UnsetType = UNSET
    name: str | UnsetType = UNSET


class LocalUser(_Strict):
    id: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    email: str | UnsetType = UNSET
    domain: DomainRef | UnsetType = UNSET
    type: str | UnsetType = UNSET


class LocalGroup(_Strict):
    id: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    domain: DomainRef | UnsetType = UNSET


class LocalRole(_Strict):
    name: str


class LocalProject(_Strict):
    name: str
    roles: list[LocalRole]
    domain: DomainRef | UnsetType = UNSET


class Local(_Strict):
    user: LocalUser | UnsetType = UNSET
    group: LocalGroup | UnsetType = UNSET
    groups: str | UnsetType = UNSET
    group_ids: str | UnsetType = UNSET
    domain: DomainRef | UnsetType = UNSET
    projects: list[LocalProject] | UnsetType = UNSET


class Remote(_Strict):
    type: str
    any_one_of: list[Any] | UnsetType = UNSET
    not_any_of: list[Any] | UnsetType = UNSET
    whitelist: list[Any] | UnsetType = UNSET
    blacklist: list[Any] | UnsetType = UNSET
    regex: bool | UnsetType = UNSET


class Rule(_Strict):
    local: list[Local]
    remote: Annotated[list[Remote], Meta(min_length=1)]


class WantedMapping(msgspec.Struct, kw_only=True):
    rules: Annotated[list[Rule], Meta(min_length=1)]
    schema_version: Annotated[str, Meta(max_length=5)] | None = None


def _rules(want: Any) -> list[Any]:
    """The rules as they are kept. Raises BadRequest for conditions that exclude each other."""
    for rule in want.rules:
        for remote in rule.remote:
            named = [
                n
                for n in ("any_one_of", "not_any_of", "whitelist", "blacklist")
                if getattr(remote, n) is not UNSET
            ]
            if len(named) > 1 or (remote.regex is not UNSET and not named):
                raise BadRequest(
                    "Invalid input for field/attribute rules.remote: one condition at most, and regex only with one."
                )
    made = msgspec.to_builtins(want.rules)
    try:
        language.read(made)
    except language.MappingInvalid as e:
        raise BadRequest(f"Invalid input for field/attribute {e}") from None
    return list(made)


def _version(want: WantedMapping, kept: str) -> str:
    """The schema that the mapping is written in. Raises BadRequest for one that is not known."""
    if want.schema_version is not None and want.schema_version not in language.VERSIONS:
        raise BadRequest("Invalid input for field/attribute schema_version: it is 1.0 or 2.0.")
    return want.schema_version or kept


class _Mappings(Resource):
    def shown(self, req: Request, row: Row) -> dict[str, Any]:
        made = {"id": row.id, "rules": row.rules, "schema_version": row.schema_version}
        return self.linked(req, f"{_ROOT}/mappings/{row.id}", made)


class Mappings(_Mappings):
    """/v3/OS-FEDERATION/mappings"""

    def on_get(self, req: Request, resp: Response) -> None:
        with self.db.read() as tx:
            rows = tx.execute(actions.mappings(rest.caller(req))).all()
        resp.media = self.listed(req, "mappings", [self.shown(req, r) for r in rows])


class Mapping(_Mappings):
    """/v3/OS-FEDERATION/mappings/{mapping_id}"""

    def on_get(self, req: Request, resp: Response, mapping_id: str) -> None:
        with self.db.read() as tx:
            row = actions.get_mapping(tx, rest.caller(req), mapping_id)
        resp.media = {"mapping": self.shown(req, row)}

    def on_put(self, req: Request, resp: Response, mapping_id: str) -> None:
        want = rest.body(req, WantedMapping, key="mapping")
        with self.db.begin() as tx:
            row = actions.create_mapping(
                tx, rest.caller(req), _id(mapping_id), _rules(want), _version(want, "1.0")
            )
        resp.status, resp.media = "201 Created", {"mapping": self.shown(req, row)}

    def on_patch(self, req: Request, resp: Response, mapping_id: str) -> None:
        want = rest.body(req, WantedMapping, key="mapping")
        with self.db.begin() as tx:
            kept = actions.get_mapping(tx, rest.caller(req), mapping_id, "update_mapping").schema_version
            change = {"rules": _rules(want), "schema_version": _version(want, kept)}
            row = actions.update_mapping(tx, rest.caller(req), mapping_id, change)
        resp.media = {"mapping": self.shown(req, row)}

    def on_delete(self, req: Request, resp: Response, mapping_id: str) -> None:
        with self.db.begin() as tx:
            actions.delete_mapping(tx, rest.caller(req), mapping_id)
        empty(resp)


# -- service providers -------------------------------------------------------------------------------------------------


class NewServiceProvider(_Strict):
    auth_url: Url
    sp_url: Url
    enabled: Truth = False
    description: str | None = None
    relay_state_prefix: str | None = None


class ChangedServiceProvider(_Strict):
    auth_url: Url | UnsetType = UNSET
    sp_url: Url | UnsetType = UNSET
    enabled: Truth | UnsetType = UNSET
    description: str | UnsetType | None = UNSET
    relay_state_prefix: str | UnsetType | None = UNSET


class _ServiceProviders(Resource):
    def shown(self, req: Request, row: Row) -> dict[str, Any]:
        names = ("id", "enabled", "description", "auth_url", "sp_url", "relay_state_prefix")
        return self.linked(req, f"{_ROOT}/service_providers/{row.id}", {n: getattr(row, n) for n in names})


class ServiceProviders(_ServiceProviders):
    """/v3/OS-FEDERATION/service_providers"""

    def on_get(self, req: Request, resp: Response) -> None:
        with self.db.read() as tx:
            query = filtered(
                req, actions.service_providers(rest.caller(req)), state.service_provider, "id", "enabled"
            )
            rows = tx.execute(query).all()
        resp.media = self.listed(req, "service_providers", [self.shown(req, r) for r in rows])


class ServiceProvider(_ServiceProviders):
    """/v3/OS-FEDERATION/service_providers/{service_provider_id}"""

    def on_get(self, req: Request, resp: Response, service_provider_id: str) -> None:
        with self.db.read() as tx:
            row = actions.get_service_provider(tx, rest.caller(req), service_provider_id)
        resp.media = {"service_provider": self.shown(req, row)}

    def on_put(self, req: Request, resp: Response, service_provider_id: str) -> None:
        want = _words(msgspec.structs.asdict(rest.body(req, NewServiceProvider, key="service_provider")))
        want["relay_state_prefix"] = want["relay_state_prefix"] or actions.RELAY_STATE_PREFIX
        with self.db.begin() as tx:
            row = actions.create_service_provider(tx, rest.caller(req), _id(service_provider_id), want)
        resp.status, resp.media = "201 Created", {"service_provider": self.shown(req, row)}

    def on_patch(self, req: Request, resp: Response, service_provider_id: str) -> None:
        want = rest.body(req, ChangedServiceProvider, key="service_provider")
        change = _words(_changed(given(want), "service_provider"))
        if "relay_state_prefix" in change:
            change["relay_state_prefix"] = change["relay_state_prefix"] or actions.RELAY_STATE_PREFIX
        with self.db.begin() as tx:
            row = actions.update_service_provider(tx, rest.caller(req), service_provider_id, change)
        resp.media = {"service_provider": self.shown(req, row)}

    def on_delete(self, req: Request, resp: Response, service_provider_id: str) -> None:
        with self.db.begin() as tx:
            actions.delete_service_provider(tx, rest.caller(req), service_provider_id)
        empty(resp)


ROUTES = (
    (f"/v3{_ROOT}/identity_providers", IdentityProviders),
    (f"/v3{_ROOT}/identity_providers/{{idp_id}}", IdentityProvider),
    (f"/v3{_ROOT}/identity_providers/{{idp_id}}/protocols", Protocols),
    (f"/v3{_ROOT}/identity_providers/{{idp_id}}/protocols/{{protocol_id}}", Protocol),
    (f"/v3{_ROOT}/mappings", Mappings),
    (f"/v3{_ROOT}/mappings/{{mapping_id}}", Mapping),
    (f"/v3{_ROOT}/service_providers", ServiceProviders),
    (f"/v3{_ROOT}/service_providers/{{service_provider_id}}", ServiceProvider),
)
