"""What the machine is taught, and how it is examined."""
