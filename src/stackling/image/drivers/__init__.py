"""Stores of image data, caches and builders of hosts: real and fake."""
