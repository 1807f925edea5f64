"""Running a study: planning, executors, the engine of populations."""
