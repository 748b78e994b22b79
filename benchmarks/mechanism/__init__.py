"""Why the methods do what they do, measured on frozen checkpoints (see `__main__`)."""
