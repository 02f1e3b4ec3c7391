"""The agent of our own for systems whose cloud-init is missing or too old: POSIX shell, nothing else needed."""

from pathlib import Path

from stackling.image.builder.recipe import File

HERE = Path(__file__).parent
HOME = "/usr/lib/stackling-agent"


def agent_files(login: str) -> list[File]:
    """The agent's files in an image; `login` is who gets the cloud's ssh keys besides root."""
    made = [
        File(path=f"{HOME}/{name}", content=(HERE / name).read_text(), mode="0755")
        for name in ("agent", "install")
    ]
    return [
        *made,
        File(
            path="/etc/stackling-agent.conf", content=f"# Users who get the cloud's keys.\nusers='{login}'\n"
        ),
    ]
