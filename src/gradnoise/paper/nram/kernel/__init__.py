"""What makes the machine fast: a whole run as one compiled operator."""
