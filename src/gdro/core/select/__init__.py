"""Which prompts enter a step (method D9 and the peers): one policy a file."""
