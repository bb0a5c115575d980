"""The way of a record: from a line of a training file back through every step to the raw line."""
