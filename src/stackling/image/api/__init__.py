"""The Image API (Glance v2) on the wire."""

from collections.abc import Iterable

from stackling.base.cloud import Cloud
from stackling.base.rest import Service
from stackling.image.api import data, image, info, member, schema, tag, version
from stackling.image.api.envelope import envelope


def routes(cloud: Cloud) -> Iterable[tuple[str, object]]:
    yield "", version.Versions(cloud, "300 Multiple Choices")
    yield "/versions", version.Versions(cloud, "200 OK")
    yield "/v2/images", image.Images(cloud)
    yield "/v2/images/{image_id}", image.Image(cloud)
    yield "/v2/images/{image_id}/file", data.File(cloud)
    yield "/v2/images/{image_id}/actions/deactivate", image.Activation(cloud, active=False)
    yield "/v2/images/{image_id}/actions/reactivate", image.Activation(cloud, active=True)
    yield "/v2/images/{image_id}/members", member.Members(cloud)
    yield "/v2/images/{image_id}/members/{member_id}", member.Member(cloud)
    yield "/v2/images/{image_id}/tags/{tag}", tag.Tag(cloud)
    yield "/v2/info/import", info.Import()
    yield "/v2/info/stores", info.Stores()
    yield "/v2/info/stores/detail", info.StoresDetail(cloud)
    yield "/v2/info/usage", info.Usage(cloud)
    for name in schema.SCHEMAS:
        yield f"/v2/schemas/{name}", schema.Schema(name)


SERVICE = Service(name="image", prefix="/image", routes=routes, envelope=envelope, trailing_slash=False)

__all__ = ["SERVICE"]
