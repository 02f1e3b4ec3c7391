"""Stores of image data."""
