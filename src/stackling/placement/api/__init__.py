"""The Placement API on the wire."""

from collections.abc import Iterable

from stackling.base.cloud import Cloud
from stackling.base.errors import Error
from stackling.base.microversion import Version
from stackling.base.rest import Envelope, Problem, Service
from stackling.placement.api import allocation, provider, version, vocabulary


def routes(cloud: Cloud) -> Iterable[tuple[str, object]]:
    yield "", version.Versions(cloud)
    yield "/resource_providers", provider.Providers(cloud)
    yield "/resource_providers/{id}", provider.Provider(cloud)
    yield "/resource_providers/{id}/inventories", provider.ProviderInventories(cloud)
    yield "/resource_providers/{id}/inventories/{name}", provider.ProviderInventory(cloud)
    yield "/resource_providers/{id}/usages", provider.ProviderUsages(cloud)
    yield "/resource_providers/{id}/aggregates", provider.ProviderAggregates(cloud)
    yield "/resource_providers/{id}/traits", provider.ProviderTraits(cloud)
    yield "/resource_providers/{id}/allocations", provider.ProviderAllocations(cloud)
    yield "/resource_classes", vocabulary.Classes(cloud)
    yield "/resource_classes/{name}", vocabulary.Class(cloud)
    yield "/traits", vocabulary.Traits(cloud)
    yield "/traits/{name}", vocabulary.Trait(cloud)
    yield "/allocations", allocation.Many(cloud)
    yield "/allocations/{consumer}", allocation.OfConsumer(cloud)
    yield "/allocation_candidates", allocation.Candidates(cloud)
    yield "/usages", allocation.Usages(cloud)
    yield "/reshaper", allocation.Reshaper(cloud)


def envelope(problem: Problem) -> Envelope:
    error: Error = problem.error
    made: dict[str, object] = {
        "status": problem.status,
        "title": error.title,
        "detail": error.says,
        "request_id": problem.request_id,
    }
    if problem.version is not None and problem.version >= Version(1, 23):
        made["code"] = getattr(error, "code", "placement.undefined_code")
    if problem.status == 406:
        made |= {"min_version": str(version.SPOKEN.lowest), "max_version": str(version.SPOKEN.highest)}
    return Envelope({"errors": [made]})


SERVICE = Service(
    name="placement", prefix="/placement", routes=routes, envelope=envelope, versions=version.SPOKEN
)

__all__ = ["SERVICE"]
