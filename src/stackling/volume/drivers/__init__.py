"""The implementations of `volume.driver`, one file each."""
