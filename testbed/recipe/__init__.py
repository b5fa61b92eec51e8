"""How the testbed's models are trained, from drawn pictures to shipped weights."""
