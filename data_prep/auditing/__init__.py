"""For `audit`: a sample of the mined negatives, and how many of them are right answers after all."""
