"""Sharing an image with other projects."""

import sqlalchemy as sa

from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import Conflict, Forbidden, NotFound, TooLarge
from stackling.image.actions.image import find, owned, target
from stackling.image.state.image import Visibility
from stackling.image.state.member import Status, image_member

MOST_MEMBERS = 128


def _row(tx: Tx, image_id: str, member_id: str) -> Row:
    this = sa.and_(image_member.c.image_id == image_id, image_member.c.member_id == member_id)
    row = tx.execute(sa.select(image_member).where(this)).first()
    if row is None:
        raise NotFound(f"{member_id[:64]} not found in the member list of the image {image_id}.")
    return row


def _shared(row: Row) -> None:
    if row.visibility != Visibility.SHARED:
        raise Forbidden("Only shared images have members.")


def create(tx: Tx, cloud: Cloud, caller: Caller, image_id: str, member_id: str) -> Row:
    """Share an image with a project, which must accept it. Raises NotFound, Forbidden, Conflict, TooLarge."""
    row = owned(tx, caller, image_id, "add_member")
    _shared(row)
    count = sa.select(sa.func.count()).select_from(image_member).where(image_member.c.image_id == image_id)
    if tx.execute(count).scalar_one() >= MOST_MEMBERS:
        raise TooLarge(
            f"The limit has been exceeded on the number of allowed image members for this image. Maximum: {MOST_MEMBERS}"
        )
    this = sa.and_(image_member.c.image_id == image_id, image_member.c.member_id == member_id)
    if tx.execute(sa.select(image_member.c.image_id).where(this)).first():
        raise Conflict(f"Project {member_id} is already associated with image {image_id}.")
    now = cloud.clock.now()
    new = {
        "image_id": image_id,
        "member_id": member_id,
        "status": Status.PENDING,
        "created_at": now,
        "updated_at": now,
    }
    return tx.execute(sa.insert(image_member).values(**new).returning(image_member)).one()


def listed(tx: Tx, caller: Caller, image_id: str) -> list[Row]:
    """The members of an image: all for its owner, only itself for a member. Raises NotFound, Forbidden."""
    row = find(tx, caller, image_id)
    _shared(row)
    query = (
        sa.select(image_member).where(image_member.c.image_id == image_id).order_by(image_member.c.created_at)
    )
    if caller.can("get_members", target(row)):
        return list(tx.execute(query))
    caller.may("get_members", target(row, caller.project_id))
    return list(tx.execute(query.where(image_member.c.member_id == caller.project_id)))


def get(tx: Tx, caller: Caller, image_id: str, member_id: str) -> Row:
    """Raises NotFound also for other members than the caller's own project."""
    row = find(tx, caller, image_id)
    if not caller.can("get_member", target(row, member_id)):
        raise NotFound(f"{member_id[:64]} not found in the member list of the image {image_id}.")
    return _row(tx, image_id, member_id)


def set_status(tx: Tx, cloud: Cloud, caller: Caller, image_id: str, member_id: str, status: Status) -> Row:
    """Accept or reject. Only the member itself may; raises NotFound, Forbidden."""
    find(tx, caller, image_id)
    _row(tx, image_id, member_id)
    caller.may("modify_member", {"project_id": caller.project_id, "member_id": member_id})
    this = sa.and_(image_member.c.image_id == image_id, image_member.c.member_id == member_id)
    values = {"status": status, "updated_at": cloud.clock.now()}
    return tx.execute(sa.update(image_member).where(this).values(**values).returning(image_member)).one()


def delete(tx: Tx, caller: Caller, image_id: str, member_id: str) -> None:
    owned(tx, caller, image_id, "delete_member")
    _row(tx, image_id, member_id)
    this = sa.and_(image_member.c.image_id == image_id, image_member.c.member_id == member_id)
    tx.execute(sa.delete(image_member).where(this))
