"""Facts: what things are. Standard library only, no input, no output."""
