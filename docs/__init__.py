"""The pages, and what writes those that are generated."""
