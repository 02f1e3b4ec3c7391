"""One file per kind of process, and the assembly that they share. Only here are steps and real drivers plugged in."""
