"""Who may do what with images: upstream's rule names and defaults."""

from stackling.base.policy import Rule

_OWNER = "role:admin or (role:member and project_id:%(project_id)s)"
_MEMBER = "role:admin or (role:member and project_id:%(member_id)s)"
_SEEN = (
    'project_id:%(project_id)s or project_id:%(member_id)s or "community":%(visibility)s'
    ' or "public":%(visibility)s or "shared":%(visibility)s'
)
_ANYONE = "role:admin or role:reader"
_DEFINED = "role:admin or (role:reader and (project_id:%(project_id)s or 'public':%(visibility)s))"
_OWN_READER = "role:admin or (role:reader and project_id:%(project_id)s)"
_SHOWN = ("namespace", "object", "objects", "property", "properties", "tag", "tags", "resource_type")
_METADEF_CHANGES = (
    *(f"{verb}_metadef_namespace" for verb in ("add", "modify", "delete")),
    *(f"{verb}_metadef_object" for verb in ("add", "modify", "delete")),
    *(f"{verb}_metadef_property" for verb in ("add", "modify", "remove")),
    *(f"{verb}_metadef_tag" for verb in ("add", "modify", "delete")),
    *(f"{verb}_metadef_tags" for verb in ("add", "delete")),
    *(f"{verb}_metadef_resource_type_association" for verb in ("add", "remove")),
)

RULES = (
    Rule(
        "add_image",
        "role:admin or (role:member and project_id:%(project_id)s and project_id:%(owner)s)",
        "Create an image",
    ),
    Rule("delete_image", _OWNER, "Delete an image"),
    Rule("get_image", f"role:admin or (role:reader and ({_SEEN}))", "Show an image"),
    Rule("get_images", "role:admin or (role:reader and project_id:%(project_id)s)", "List images"),
    Rule("modify_image", _OWNER, "Change an image, its tags and properties"),
    Rule("publicize_image", "role:admin", "Make an image public"),
    Rule("communitize_image", _OWNER, "Make an image a community one"),
    Rule("download_image", f"role:admin or (role:member and ({_SEEN}))", "Download an image's data"),
    Rule("upload_image", _OWNER, "Upload or stage an image's data"),
    Rule("deactivate", _OWNER, "Deactivate an image"),
    Rule("reactivate", _OWNER, "Reactivate an image"),
    Rule("get_image_location", f"role:admin or (role:reader and ({_SEEN}))", "See an image's locations"),
    Rule("set_image_location", _OWNER, "Change an image's locations"),
    Rule("delete_image_location", "role:admin", "Remove an image from a store or location"),
    Rule("add_image_location", f"{_OWNER} or role:service", "Have an image's data stay where it is"),
    Rule("fetch_image_location", "role:service", "List an image's locations as other services do"),
    Rule("cache_image", "role:admin", "Have hosts cache an image"),
    Rule("cache_list", "role:admin", "List the images that hosts have cached"),
    Rule("cache_delete", "role:admin", "Remove images from the hosts' caches"),
    Rule("cache_clean", "role:admin", "Clear remains out of the hosts' caches"),
    Rule("cache_prune", "role:admin", "Remove images that no server uses from the hosts' caches"),
    Rule("add_member", _OWNER, "Share an image with a project"),
    Rule("delete_member", _OWNER, "Take back a share"),
    Rule(
        "get_member",
        "role:admin or (role:reader and (project_id:%(project_id)s or project_id:%(member_id)s))",
        "Show a member",
    ),
    Rule(
        "get_members",
        "role:admin or (role:reader and (project_id:%(project_id)s or project_id:%(member_id)s))",
        "List members",
    ),
    Rule("modify_member", _MEMBER, "Accept or reject a shared image"),
    Rule("stores_info_detail", "role:admin", "Show the stores in detail"),
    Rule("copy_image", "role:admin", "Copy an image to more stores"),
    Rule("tasks_api_access", "role:admin", "Use the tasks API"),
    Rule("get_task", _ANYONE, "Show a task"),
    Rule("get_tasks", _ANYONE, "List tasks"),
    Rule("add_task", _ANYONE, "Create a task"),
    # Builds: rules of our own.
    Rule("image_build:create", _OWNER, "Build an image from a shipped recipe"),
    Rule("image_build:create_custom", _OWNER, "Build an image from a recipe of one's own"),
    Rule(
        "image_build:on_host",
        "role:admin",
        "Have one's builds run confined on a host instead of in a virtual machine, and without its limits",
    ),
    Rule("image_build:list", _OWN_READER, "List builds of images and their schedules"),
    Rule("image_build:show", _OWN_READER, "Show a build, its log and packages, or a schedule"),
    Rule("image_build:cancel", _OWNER, "Cancel a build"),
    Rule("image_build:delete", _OWNER, "Delete a build that has ended"),
    Rule("image_build:schedule", _OWNER, "Create, change and delete schedules of builds"),
    *(Rule(f"get_metadef_{what}", _DEFINED, f"Show a metadata definition's {what}") for what in _SHOWN),
    Rule(
        "get_metadef_namespaces",
        "role:admin or (role:reader and project_id:%(project_id)s)",
        "List metadata definitions",
    ),
    Rule(
        "list_metadef_resource_types",
        "role:admin or (role:reader and project_id:%(project_id)s)",
        "List kinds of resources",
    ),
    *(Rule(name, "role:admin", "Change metadata definitions") for name in _METADEF_CHANGES),
)
