"""Stackling: a whole private cloud in one Python program, behind the OpenStack REST APIs."""

from importlib.metadata import version as _version

__version__ = _version("stackling")
