"""Stores of objects' data."""
