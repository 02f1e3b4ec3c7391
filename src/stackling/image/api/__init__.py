"""The Image API (Glance v2) on the wire."""

from collections.abc import Iterable

from stackling.base.cloud import Cloud
from stackling.base.rest import Service
from stackling.image.api import (
    build,
    cached,
    data,
    image,
    image_import,
    info,
    location,
    member,
    metadef_definition,
    metadef_namespace,
    metadef_resource_type,
    patch,
    schema,
    tag,
    task,
    version,
)
from stackling.image.api.envelope import envelope


def routes(cloud: Cloud) -> Iterable[tuple[str, object]]:
    yield "", version.Versions(cloud, "300 Multiple Choices")
    yield "/versions", version.Versions(cloud, "200 OK")
    yield "/v2/images", image.Images(cloud)
    yield "/v2/images/{image_id}", patch.Image(cloud)
    yield "/v2/images/{image_id}/file", data.File(cloud)
    yield "/v2/images/{image_id}/locations", location.Locations(cloud)
    yield "/v2/stores/{store}/{image_id}", location.Copy(cloud)
    yield "/v2/cache", cached.Cache(cloud)
    yield "/v2/cache/clean", cached.Look(cloud, "cache_clean")
    yield "/v2/cache/prune", cached.Look(cloud, "cache_prune")
    yield "/v2/cache/nodes/{image_id}", cached.Nodes(cloud)
    yield "/v2/cache/{image_id}", cached.Cached(cloud)
    yield "/v2/images/{image_id}/actions/deactivate", image.Activation(cloud, active=False)
    yield "/v2/images/{image_id}/actions/reactivate", image.Activation(cloud, active=True)
    yield "/v2/images/{image_id}/members", member.Members(cloud)
    yield "/v2/images/{image_id}/members/{member_id}", member.Member(cloud)
    yield "/v2/images/{image_id}/tags/{tag}", tag.Tag(cloud)
    yield "/v2/info/import", info.Import()
    yield "/v2/info/stores", info.Stores(cloud)
    yield "/v2/info/stores/detail", info.StoresDetail(cloud)
    yield "/v2/info/usage", info.Usage(cloud)
    yield "/v2/images/{image_id}/stage", image_import.Stage(cloud)
    yield "/v2/images/{image_id}/import", image_import.Import(cloud)
    yield "/v2/images/{image_id}/tasks", image_import.Tasks(cloud)
    yield "/v2/tasks", task.Tasks(cloud)
    yield "/v2/tasks/{task_id}", task.Task(cloud)
    yield "/v2/metadefs/resource_types", metadef_resource_type.ResourceTypes(cloud)
    yield "/v2/metadefs/namespaces", metadef_namespace.Namespaces(cloud)
    yield "/v2/metadefs/namespaces/{namespace}", metadef_namespace.Namespace(cloud)
    yield "/v2/metadefs/namespaces/{namespace}/resource_types", metadef_resource_type.Associations(cloud)
    yield (
        "/v2/metadefs/namespaces/{namespace}/resource_types/{name}",
        metadef_resource_type.Association(cloud),
    )
    yield "/v2/metadefs/namespaces/{namespace}/objects", metadef_definition.Objects(cloud)
    yield "/v2/metadefs/namespaces/{namespace}/objects/{name}", metadef_definition.Object(cloud)
    yield "/v2/metadefs/namespaces/{namespace}/properties", metadef_definition.Properties(cloud)
    yield "/v2/metadefs/namespaces/{namespace}/properties/{name}", metadef_definition.Property(cloud)
    yield "/v2/metadefs/namespaces/{namespace}/tags", metadef_definition.Tags(cloud)
    yield "/v2/metadefs/namespaces/{namespace}/tags/{name}", metadef_definition.Tag(cloud)
    yield "/v2/build_recipes", build.Recipes()
    yield "/v2/build_recipes/{name}", build.Recipe()
    yield "/v2/builds", build.Builds(cloud)
    yield "/v2/builds/{build_id}", build.Build(cloud)
    yield "/v2/builds/{build_id}/log", build.Attached(cloud, "log", "text/plain; charset=UTF-8")
    yield "/v2/builds/{build_id}/packages", build.Attached(cloud, "packages.json", "application/spdx+json")
    yield "/v2/builds/{build_id}/actions/cancel", build.Cancel(cloud)
    yield "/v2/build_schedules", build.Schedules(cloud)
    yield "/v2/build_schedules/{schedule_id}", build.Schedule(cloud)
    for name in schema.SCHEMAS:
        yield f"/v2/schemas/{name}", schema.Schema(name)


SERVICE = Service(name="image", prefix="/image", routes=routes, envelope=envelope, trailing_slash=False)

__all__ = ["SERVICE"]
