"""What each prompt's advantages are multiplied by (paper 3.2; method D6-D10): one policy a file."""
