"""Everything that talks to the kernel, and the simulated kernel beside it."""
