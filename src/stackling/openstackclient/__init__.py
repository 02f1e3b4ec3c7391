"""Commands that Stackling adds to the `openstack` client, for what is Stackling's own.

They are entry points (`pyproject.toml`) in the client's own groups, and use its connection and nothing of the cloud's code.
"""
