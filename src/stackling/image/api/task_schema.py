"""JSON schemas of tasks."""

from typing import Any

from stackling.image.state.task import State, Type

_TEXT = {"type": "string"}
_TASK: dict[str, Any] = {
    "name": "task",
    "properties": {
        "id": {
            **_TEXT,
            "description": "An identifier for the task",
            "pattern": "^([0-9a-fA-F]){8}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){12}$",
        },
        "type": {**_TEXT, "description": "What the task does", "enum": list(Type)},
        "status": {**_TEXT, "description": "How far the task is", "enum": list(State)},
        "input": {"type": ["null", "object"], "description": "What was asked for"},
        "result": {"type": ["null", "object"], "description": "What came of it"},
        "owner": {**_TEXT, "description": "Project that the task belongs to"},
        "message": {**_TEXT, "description": "Progress, or why it failed"},
        "image_id": {**_TEXT, "description": "Image that the task is about"},
        "request_id": {**_TEXT, "description": "Request that asked for the task"},
        "user_id": {**_TEXT, "description": "User that asked for the task"},
        "expires_at": {"type": ["null", "string"], "description": "When the task is forgotten"},
        "created_at": {**_TEXT, "description": "Time of creation"},
        "updated_at": {**_TEXT, "description": "Time of the last change"},
        "self": {**_TEXT, "readOnly": True},
        "schema": {**_TEXT, "readOnly": True},
    },
}

TASKS: dict[str, dict[str, Any]] = {
    "task": _TASK,
    "tasks": {
        "name": "tasks",
        "properties": {
            "tasks": {"type": "array", "items": _TASK},
            "first": _TEXT,
            "next": _TEXT,
            "schema": _TEXT,
        },
        "links": [
            {"rel": "first", "href": "{first}"},
            {"rel": "next", "href": "{next}"},
            {"rel": "describedby", "href": "{schema}"},
        ],
    },
}
