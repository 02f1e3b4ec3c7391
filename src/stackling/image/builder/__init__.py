"""The image builder: bootable disk images made to order, without loop devices, mounts on the host, or KVM.

A recipe (`recipe.py`, the shipped ones in `recipes/`) says what an image is. `line.py` builds one: packages are fetched
and installed (`debian.py`), or an installer runs (`installer.py`), a disk is written (`disk.py`) and booted as a test
(`trial.py`). Whatever runs code of the image runs confined (`confine.py`), and what tenants ask for in a virtual machine too
(`appliance.py`). `micro/` is the tiny image, made otherwise.
"""

from stackling.image.builder.micro.build import BuiltImage, build_ready_image
from stackling.image.builder.micro.recipe import READY
from stackling.image.builder.run import BuildError

__all__ = ["READY", "BuildError", "BuiltImage", "build_ready_image"]
