"""Look at the negatives that mining has chosen, and say how many of them are none."""
