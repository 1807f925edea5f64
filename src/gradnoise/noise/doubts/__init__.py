"""What goes wrong without a word once noise is attached: found out in the first updates, and said."""
