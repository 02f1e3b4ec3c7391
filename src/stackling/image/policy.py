"""Who may do what with images: upstream's rule names and defaults."""

from stackling.base.policy import Rule

_OWNER = "role:admin or (role:member and project_id:%(project_id)s)"
_MEMBER = "role:admin or (role:member and project_id:%(member_id)s)"
_SEEN = (
    'project_id:%(project_id)s or project_id:%(member_id)s or "community":%(visibility)s'
    ' or "public":%(visibility)s or "shared":%(visibility)s'
)

RULES = (
    Rule("add_image", "role:admin or (role:member and project_id:%(project_id)s and project_id:%(owner)s)", "Create an image"),
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
    Rule("add_member", _OWNER, "Share an image with a project"),
    Rule("delete_member", _OWNER, "Take back a share"),
    Rule("get_member", "role:admin or (role:reader and (project_id:%(project_id)s or project_id:%(member_id)s))", "Show a member"),
    Rule("get_members", "role:admin or (role:reader and (project_id:%(project_id)s or project_id:%(member_id)s))", "List members"),
    Rule("modify_member", _MEMBER, "Accept or reject a shared image"),
    Rule("stores_info_detail", "role:admin", "Show the stores in detail"),
)
