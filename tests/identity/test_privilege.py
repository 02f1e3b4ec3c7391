"""Nobody gets a role that he was not given: random worlds, compared with a model that is plainly right.

A world is domains, projects, roles that imply others, people in groups, assignments (inherited ones too), and what
people hand on: trusts, trusts made from trusts, application credentials. Then some of it ends: assignments are taken
away, people leave groups, roles imply others no more. Tokens from before may say no more than new ones.
"""

import copy
import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.conftest import Answer, Bed, User

V3 = "/identity/v3"
DOMAINS, PROJECTS, PEOPLE, GROUPS, ROLES = 2, 4, 3, 2, 5
OF_DOMAIN = ROLES  # the number of the role that belongs to the first domain; the others are the cloud's


@dataclass(frozen=True)
class Given:
    """An assignment. `actor` counts people, then groups; `on` counts projects, then domains, then the system."""

    actor: int
    on: int
    role: int
    inherited: bool


@dataclass(frozen=True)
class Lent:
    """A trust or an application credential; `frm` is the trust that it is made from, counted from the first."""

    kind: str
    who: int
    to: int
    project: int
    roles: frozenset[int]
    frm: int | None = None


@dataclass
class World:
    parents: list[int | None]  # of each project, an earlier one or none
    homes: list[int]  # the domain of each project that has no parent
    implies: set[tuple[int, int]]
    inside: set[tuple[int, int]]  # (person, group)
    given: list[Given]
    refused: list[Given] = field(default_factory=list)  # assignments that nobody can make
    lent: list[Lent] = field(default_factory=list)
    # What ends after a while.
    taken: list[Given] = field(default_factory=list)
    left: list[tuple[int, int]] = field(default_factory=list)  # (person, group)
    parted: list[tuple[int, int]] = field(default_factory=list)  # (role, one that it implied)

    def domain(self, project: int) -> int:
        parent = self.parents[project]
        return self.homes[project] if parent is None else self.domain(parent)

    def above(self, project: int) -> set[int]:
        parent = self.parents[project]
        return set() if parent is None else {parent} | self.above(parent)

    def closure(self, roles: set[int]) -> set[int]:
        more = roles | {j for i, j in self.implies if i in roles}
        return more if more == roles else self.closure(more)

    def effective(self, person: int, on: int) -> set[int]:
        """The roles of the cloud that a person has on a target."""
        mine = {person} | {PEOPLE + g for p, g in self.inside if p == person}
        found = set()
        for one in self.given:
            if one.actor in mine:
                handed_down = one.inherited and on < PROJECTS and (
                    one.on in self.above(on) or one.on == PROJECTS + self.domain(on)
                )  # fmt: skip
                if handed_down or (one.on == on and not one.inherited):
                    found.add(one.role)
        return self.closure(found) - {OF_DOMAIN}


targets = PROJECTS + DOMAINS + 1


@st.composite
def _lent(draw: Any, world: World) -> Lent:
    """Mostly of roles that are held there, or the most of it would be refused."""
    pairs = list(itertools.product(range(PEOPLE), range(PROJECTS)))
    holders = [pair for pair in pairs if world.effective(*pair)]
    who, project = draw(st.sampled_from(holders or pairs))
    trusts = [lent for lent in world.lent if lent.kind == "trust"]
    frm = draw(st.integers(0, len(trusts) - 1)) if trusts and draw(st.booleans()) else None
    if frm is not None:  # the first one's giver mostly is the one that is spoken for
        who, project = trusts[0].who, trusts[0].project
    kind = draw(st.sampled_from(["trust", "application_credential"])) if frm is None else "trust"
    some = sorted(world.effective(who, project))
    most = 1 if kind == "trust" and frm is None else 3  # so that what is made from it may ask for more
    roles = set(draw(st.sets(st.sampled_from(some), min_size=1, max_size=most))) if some else set()
    if not roles or draw(st.integers(0, 4)) == 0:
        roles.add(draw(st.integers(0, ROLES - 1)))
    return Lent(kind, who, draw(st.integers(0, PEOPLE - 1)), project, frozenset(roles), frm)


@st.composite
def worlds(draw: Any) -> World:
    parents = [draw(st.none() | st.integers(0, i - 1)) if i else None for i in range(PROJECTS)]
    homes = draw(st.lists(st.integers(0, DOMAINS - 1), min_size=PROJECTS, max_size=PROJECTS))
    pairs = list(itertools.combinations(range(ROLES), 2)) + [(OF_DOMAIN, j) for j in range(ROLES)]
    implies = draw(st.sets(st.sampled_from(pairs), max_size=5))
    members = list(itertools.product(range(PEOPLE), range(GROUPS)))
    inside = draw(st.sets(st.sampled_from(members)))
    world = World(parents, homes, implies, inside, [])
    number = st.builds(
        Given,
        st.just(0) | st.integers(0, PEOPLE + GROUPS - 1),
        st.just(0) | st.integers(0, targets - 1),
        st.integers(0, ROLES),
        st.booleans(),
    )

    def fits(one: Given) -> bool:
        return one.on != targets - 1 or not (one.inherited or one.role == OF_DOMAIN)

    def elsewhere(one: Given) -> bool:
        return one.role == OF_DOMAIN and one.on < PROJECTS and world.domain(one.on) != 0

    given = draw(st.lists(number.filter(fits), min_size=5, max_size=12, unique=True))
    world.given = [one for one in given if not elsewhere(one)]
    world.refused = [one for one in given if elsewhere(one)]
    for _ in range(draw(st.integers(1, 6))):
        world.lent.append(draw(_lent(world)))
    world.taken = draw(_some(world.given, 3))
    world.left = draw(_some(sorted(inside), 2))
    world.parted = draw(_some(sorted(implies), 2))
    return world


def _some(those: list[Any], most: int) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(those), max_size=most, unique=True) if those else st.just([])


class Built:
    """A world in the cloud."""

    count = itertools.count()

    def __init__(self, bed: Bed, world: World) -> None:
        self.bed, self.world, self.admin = bed, world, bed.admin
        self.mark = f"w{next(self.count)}"
        self.domains = [self._make("domain", f"d{i}") for i in range(DOMAINS)]
        self.projects: list[str] = []
        for i, parent in enumerate(world.parents):
            home = self.domains[world.domain(i)]
            more = {} if parent is None else {"parent_id": self.projects[parent]}
            self.projects.append(self._make("project", f"p{i}", domain_id=home, **more))
        self.roles = [self._make("role", f"r{i}") for i in range(ROLES)]
        self.roles.append(self._make("role", "local", domain_id=self.domains[0]))
        for pair in world.implies:
            self._done(self.admin.put(self.implication(*pair)))
        self.people = [self._make("user", f"u{i}", password="pass-word") for i in range(PEOPLE)]
        self.groups = [self._make("group", f"g{i}") for i in range(GROUPS)]
        for pair in world.inside:
            self._done(self.admin.put(self.membership(*pair)))
        for one in world.given:
            self._done(self.admin.put(self.path(one)))
        for one in world.refused:
            assert self.admin.put(self.path(one)).status == 403
        who = [bed.login(f"{self.mark}-u{i}", "pass-word", scope="unscoped") for i in range(PEOPLE)]
        self.tokens = [user.token for user in who]
        self.held: list[tuple[str, Callable[[], set[int]]]] = []  # tokens, and the roles they should have now

    def _make(self, noun: str, name: str, **more: Any) -> str:
        made = self.admin.post(f"{V3}/{noun}s", {noun: {"name": f"{self.mark}-{name}", **more}})
        assert made.status == 201, made
        return str(made.json[noun]["id"])

    def _done(self, answer: Answer) -> None:
        assert answer.status in (201, 204), answer

    def membership(self, person: int, group: int) -> str:
        return f"{V3}/groups/{self.groups[group]}/users/{self.people[person]}"

    def implication(self, prior: int, implied: int) -> str:
        return f"{V3}/roles/{self.roles[prior]}/implies/{self.roles[implied]}"

    def path(self, one: Given) -> str:
        kind, id = self.target(one.on)
        actors = [f"users/{u}" for u in self.people] + [f"groups/{g}" for g in self.groups]
        place = "system" if kind == "system" else f"{kind}s/{id}"
        path = f"/{place}/{actors[one.actor]}/roles/{self.roles[one.role]}"
        return f"{V3}/OS-INHERIT{path}/inherited_to_projects" if one.inherited else f"{V3}{path}"

    def target(self, on: int) -> tuple[str, str]:
        if on < PROJECTS:
            return "project", self.projects[on]
        return ("domain", self.domains[on - PROJECTS]) if on < targets - 1 else ("system", "all")

    def login(self, identity: dict[str, Any], scope: Any = None) -> Answer:
        auth = {"identity": identity, **({"scope": scope} if scope else {})}
        return self.bed.nobody.post(f"{V3}/auth/tokens", {"auth": auth})

    def token(self, person: int, scope: Any) -> Answer:
        return self.login({"methods": ["token"], "token": {"id": self.tokens[person]}}, scope)

    def on(self, person: int, on: int) -> Answer:
        kind, id = self.target(on)
        return self.token(person, {"system": {"all": True}} if kind == "system" else {kind: {"id": id}})

    def bearer(self, answer: Answer) -> User:
        return User(self.bed, answer.headers["x-subject-token"])

    def check(self, answer: Answer, should: Callable[[], set[int]]) -> None:
        """That a login gives just the roles that it should, and no token where it should give none. The token is kept."""
        assert self.shown(answer) == should()
        if answer.status == 201:
            self.held.append((answer.headers["x-subject-token"], should))

    def check_held(self) -> None:
        """That each token from before has just the roles that it should have now, and works no more without any."""
        for token, should in self.held:
            answer = self.admin.get(f"{V3}/auth/tokens", headers={"X-Subject-Token": token})
            assert self.shown(answer) == should()

    def shown(self, answer: Answer) -> set[int]:
        """The numbers of the roles in a token; none where there is no token."""
        if answer.status in (401, 403, 404):
            return set()
        assert answer.status in (200, 201), answer
        return {self.roles.index(r["id"]) for r in answer.json["token"]["roles"]}

    def listed(self, query: str) -> set[tuple[int, str, int]]:
        """(person, id of the target, role) of a list of effective assignments; only of this world's roles."""
        found = set()
        for one in self.admin.get(f"{V3}/role_assignments?effective&{query}").json["role_assignments"]:
            scope = one["scope"]
            kind = next(k for k in ("project", "domain", "system") if k in scope)
            id = "all" if kind == "system" else scope[kind]["id"]
            if one["role"]["id"] in self.roles:
                found.add((self.people.index(one["user"]["id"]), id, self.roles.index(one["role"]["id"])))
        return found


class Loan:
    """Something that was lent, as it should be: who it speaks for, where, and with which roles."""

    def __init__(
        self, world: World, lent: Lent, giver: int, project: int, above: "Loan | None", login: Any
    ) -> None:
        self.world, self.lent, self.giver, self.project = world, lent, giver, project
        self.above, self.login, self.ended = above, login, False

    def gives(self) -> set[int]:
        """What a token of it may show now."""
        has = self.world.effective(self.giver, self.project)
        if self.ended:
            return set()
        if self.lent.kind == "trust" and not has.issuperset(self.lent.roles):
            return set()
        return self.world.closure(set(self.lent.roles)) & has


def lend(built: Built, lent: Lent, trusts: list[Loan]) -> Loan | None:
    """Hand something on, if that is allowed; whether it is allowed is checked."""
    world = built.world
    if lent.kind == "application_credential":
        got = built.on(lent.who, lent.project)
        has = world.effective(lent.who, lent.project)
        if not has:
            assert got.status == 401
            return None
        wanted = {"name": f"c{next(built.count)}", "roles": [{"id": built.roles[r]} for r in lent.roles]}
        at = f"{V3}/users/{built.people[lent.who]}/application_credentials"
        made = built.bearer(got).post(at, {"application_credential": wanted})
        assert (made.status == 201) is has.issuperset(lent.roles), made
        if made.status != 201:
            return None
        part = {
            "id": made.json["application_credential"]["id"],
            "secret": made.json["application_credential"]["secret"],
        }
        login = {"methods": ["application_credential"], "application_credential": part}
        return Loan(world, lent, lent.who, lent.project, None, lambda: built.login(login))
    above = trusts[lent.frm] if lent.frm is not None and lent.frm < len(trusts) else None
    giver, project = (above.giver, above.project) if above else (lent.who, lent.project)
    got = above.login() if above else built.token(lent.who, "unscoped")
    may = world.effective(giver, project)
    if above:
        may = may & above.gives()
        if not above.gives():
            assert got.status in (401, 403)
            return None
    wanted = {
        "trustor_user_id": built.people[giver],
        "trustee_user_id": built.people[lent.to],
        "project_id": built.projects[project],
        "impersonation": True,
        "allow_redelegation": True,
        "roles": [{"id": built.roles[r]} for r in lent.roles],
    }
    bearer, trusts_of_all = built.bearer(got), f"{V3}/OS-TRUST/trusts"
    anothers = {"trustor_user_id": built.people[(giver + 1) % PEOPLE]}
    assert bearer.post(trusts_of_all, {"trust": wanted | anothers}).status == 403
    made = bearer.post(trusts_of_all, {"trust": wanted})
    depth = 0
    loan = above
    while loan:
        depth, loan = depth + 1, loan.above
    assert (made.status == 201) is (may.issuperset(lent.roles) and depth <= 3), made
    if made.status != 201:
        return None
    trust = {"OS-TRUST:trust": {"id": made.json["trust"]["id"]}}
    new = Loan(world, lent, giver, project, above, lambda who=lent.to: built.token(who, trust))
    trusts.append(new)
    return new


def _rich() -> World:
    """A world with what chance rarely makes: two ways to the same role, of which one ends, and trusts handed on to the end."""
    world = World([None, 0, 1, None], [0, 0, 0, 1], {(0, 1), (1, 2), (OF_DOMAIN, 3)}, {(0, 0), (1, 1)}, [])
    world.taken = [Given(0, 0, 0, False), Given(PEOPLE, 0, 4, False)]
    world.given = [
        *world.taken,
        Given(PEOPLE, 0, 0, False),
        Given(PEOPLE + 1, 0, 4, True),
        Given(1, PROJECTS, 2, True),
        Given(0, 1, OF_DOMAIN, False),
        Given(2, targets - 1, 4, False),
    ]
    world.refused = [Given(2, 3, OF_DOMAIN, False), Given(PEOPLE, 3, OF_DOMAIN, True)]
    world.lent = [
        Lent("application_credential", 0, 0, 0, frozenset({0, 1})),
        *(Lent(kind, 0, 1, 0, frozenset({3})) for kind in ("application_credential", "trust")),  # not held
        *(Lent("trust", 0, n % PEOPLE, 0, frozenset({0}), n - 1 if n else None) for n in range(5)),
        Lent("trust", 0, 1, 0, frozenset({4}), 0),
        Lent("trust", 0, 2, 0, frozenset({0, 4})),
        Lent("application_credential", 1, 1, 1, frozenset({2, 4})),
    ]
    world.left, world.parted = [(1, 1)], [(1, 2)]
    return world


@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)
@given(world=worlds())
@example(world=_rich())
def test_nobody_has_more_or_less_than_he_was_given(cloud: Bed, world: World) -> None:
    world = copy.deepcopy(world)  # it is changed, and the one made by hand serves each database
    built = Built(cloud, world)
    trusts: list[Loan] = []
    loans = [loan for lent in world.lent if (loan := lend(built, lent, trusts))]
    compare(built, loans)
    for one in world.taken:
        world.given.remove(one)
        assert cloud.admin.delete(built.path(one)).status == 204
        for loan in loans:  # an application credential goes with the assignment that it may rest on
            if loan.lent.kind != "trust" and (one.actor, one.on) == (loan.giver, loan.project):
                loan.ended = True
    for pairs, gone, path in (
        (world.inside, world.left, built.membership),
        (world.implies, world.parted, built.implication),
    ):
        for pair in gone:
            pairs.remove(pair)
            assert cloud.admin.delete(path(*pair)).status == 204
    compare(built, loans)


def compare(built: Built, loans: list[Loan]) -> None:
    world = built.world
    built.check_held()
    everything = set()
    for person in range(PEOPLE):
        mine = set()
        for on in range(targets):
            roles = world.effective(person, on)
            built.check(built.on(person, on), functools.partial(world.effective, person, on))
            mine |= {(person, built.target(on)[1], role) for role in roles}
        assert built.listed(f"user.id={built.people[person]}") == mine
        everything |= mine
    for project in range(PROJECTS):
        id = built.projects[project]
        here = {one for one in everything if one[1] == id}
        assert built.listed(f"scope.project.id={id}") == here
        below = {built.projects[p] for p in range(PROJECTS) if project in world.above(p)}
        tree = {one for one in everything if one[1] in {id} | below}
        assert built.listed(f"scope.project.id={id}&include_subtree") == tree
    for role in range(ROLES):
        assert built.listed(f"role.id={built.roles[role]}") == {one for one in everything if one[2] == role}
    for loan in loans:
        got = loan.login()
        built.check(got, loan.gives)
        assert loan.gives() <= world.effective(loan.giver, loan.project)
        if loan.lent.kind == "trust":
            assert loan.login((loan.lent.to + 1) % PEOPLE).status == 403
        if got.status == 201:  # what was lent gives no way to more
            user = built.bearer(got)
            more = {"application_credential": {"name": "more"}}
            at = f"{V3}/users/{built.people[loan.giver]}/application_credentials"
            assert user.post(at, more).status == 403
            again = {"methods": ["token"], "token": {"id": user.token}}
            for scope in ("unscoped", *({"project": {"id": p}} for p in built.projects)):
                assert built.shown(built.login(again, scope)) <= loan.gives()
