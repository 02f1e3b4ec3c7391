"""Upstream's own acceptance tests, run against a running cloud."""
