"""The `stackling` command: starts and ends processes, and talks HTTP to the cloud. One file per command."""
