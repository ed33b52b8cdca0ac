"""What is minimised: one paper, one file."""
