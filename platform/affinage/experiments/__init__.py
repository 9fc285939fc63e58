"""Who gets which variant, and what the evidence says. Assignment, e-processes, states, decisions, simulation."""
