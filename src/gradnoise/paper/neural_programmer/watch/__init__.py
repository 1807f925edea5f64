"""Watching a Neural Programmer answer a question: its program step by step."""
