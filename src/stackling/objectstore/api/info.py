"""What the service tells everybody: what it can do, that it lives, and who may use it from a browser's plug-in."""

from typing import Any

from falcon import Request, Response

from stackling.base.cloud import Cloud
from stackling.objectstore import store
from stackling.objectstore.actions import (
    access,
    account,
    bulk,
    container,
    large,
    listing,
    metadata,
    object,
    reading,
)
from stackling.objectstore.actions.upload import GIB
from stackling.objectstore.api import temp_url

VERSION = "2.36.0"  # of Swift, whose behaviour this has


class Info:
    """/info"""

    public = True

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response) -> None:
        stores = store.of(self.cloud)
        policies = [
            {"name": n, "aliases": n, **({"default": True} if n == stores.default else {})}
            for n in stores.names
        ]
        digests = sorted(set(temp_url.DIGESTS.values()))
        made: dict[str, Any] = {
            "swift": {
                "version": VERSION,
                "policies": policies,
                "account_autocreate": True,
                "allow_account_management": True,
                "account_listing_limit": listing.MOST,
                "container_listing_limit": listing.MOST,
                "max_account_name_length": account.MOST_NAME,
                "max_container_name_length": container.MOST_NAME,
                "max_object_name_length": object.MOST_NAME,
                "max_file_size": self.cloud.config.objectstore.max_object_gib * GIB,
                "max_header_size": metadata.MOST_HEADER,
                "max_meta_count": metadata.MOST_COUNT,
                "max_meta_name_length": metadata.MOST_NAME,
                "max_meta_overall_size": metadata.MOST_ALL,
                "max_meta_value_length": metadata.MOST_VALUE,
                "extra_header_count": 0,
                "strict_cors_mode": True,
                "valid_api_versions": ["v1", "v1.0"],
                "cors_allow_origin": self.cloud.config.objectstore.cors_allow_origin,
            },
            "account_quotas": {},
            "bulk_delete": {
                "max_deletes_per_request": bulk.MOST_DELETES,
                "max_failed_deletes": bulk.MOST_FAILURES,
            },
            "bulk_upload": {
                "max_containers_per_extraction": bulk.MOST_CONTAINERS,
                "max_failed_extractions": bulk.MOST_FAILURES,
            },
            "container_quotas": {},
            "dlo": {"max_segments": listing.MOST},
            "formpost": {"allowed_digests": digests, "deprecated_digests": ["sha1"]},
            "keystoneauth": {"reseller_prefixes": [access.PREFIX]},
            "object_versioning": {},
            "slo": {
                "max_manifest_segments": large.MOST_SEGMENTS,
                "max_manifest_size": large.MOST_BYTES,
                "min_segment_size": 1,
                "allow_async_delete": False,
                "yield_frequency": 0,
            },
            "staticweb": {},
            "symlink": {"symloop_max": reading.LINKS, "static_links": True},
            "tempurl": {
                "methods": list(temp_url.METHODS),
                "allowed_digests": digests,
                "deprecated_digests": ["sha1"],
                "incoming_remove_headers": ["x-timestamp"],
                "incoming_allow_headers": [],
                "outgoing_remove_headers": ["x-object-meta-*"],
                "outgoing_allow_headers": [],
            },
            "versioned_writes": {"allowed_flags": ["x-versions-location", "x-history-location"]},
        }
        resp.content_type = "application/json; charset=UTF-8"
        resp.media = made


class Healthcheck:
    """/healthcheck"""

    public = True

    def on_get(self, req: Request, resp: Response) -> None:
        resp.content_type = "text/plain"
        resp.data = b"OK"


class Crossdomain:
    """/crossdomain.xml"""

    public = True

    def on_get(self, req: Request, resp: Response) -> None:
        resp.content_type = "application/xml"
        resp.text = (
            '<?xml version="1.0"?>\n<!DOCTYPE cross-domain-policy SYSTEM '
            '"http://www.adobe.com/xml/dtds/cross-domain-policy.dtd" >\n<cross-domain-policy>\n'
            '<allow-access-from domain="*" secure="false" />\n</cross-domain-policy>'
        )
