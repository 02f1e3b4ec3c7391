"""The image builder: bootable disk images made from Debian packages, without root's loop devices or KVM.

A recipe (`recipe.py`) says which packages, programs, kernel modules and own files an image has. The steps
are: fetch packages (`packages.py`), put a root tree together (`tree.py`), write a disk (`disk.py`).
"""

from stackling.image.builder.build import BuildError, BuiltImage, build, build_ready_image
from stackling.image.builder.recipe import READY, Recipe

__all__ = ["READY", "BuildError", "BuiltImage", "Recipe", "build", "build_ready_image"]
