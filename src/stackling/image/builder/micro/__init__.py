"""The tiny image: chosen programs and kernel modules out of Debian packages, with scripts of our own.

A recipe (`recipe.py`) says which packages, programs, kernel modules and own files it has. The steps are: fetch packages
(`packages.py`), put a root tree together (`tree.py`), write a disk (`disk.py`).
"""
