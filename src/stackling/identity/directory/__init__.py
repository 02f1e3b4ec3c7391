"""Reading a directory (LDAP): who is in it, and whether a password is right. Knows no database, and never writes."""

from stackling.identity.directory.client import Client, Group, User
from stackling.identity.directory.connection import Down
from stackling.identity.directory.options import Invalid, read

__all__ = ["Client", "Down", "Group", "Invalid", "User", "read"]
