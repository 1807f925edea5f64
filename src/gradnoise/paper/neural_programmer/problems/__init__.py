"""Questions about tables: their grammar, the tasks, generated examples, brute-force answers."""
