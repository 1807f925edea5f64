"""What a user sees of a machine: traces, oracles, commands."""
