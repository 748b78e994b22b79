"""How many rollouts each prompt of a step gets (paper 3.3; method D11-D16): one policy a file."""
