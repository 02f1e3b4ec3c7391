"""The implementations of `compute.driver`, one file each."""
