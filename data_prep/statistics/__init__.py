"""Count what is in training files, and what a plan makes of them."""
