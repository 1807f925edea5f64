"""One update of an optimizer: when noise is added in it, which optimizer makes it, and how updates are counted."""
