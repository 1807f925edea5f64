"""A training script as a study: its command, its arms, its processes, and what they tell."""
