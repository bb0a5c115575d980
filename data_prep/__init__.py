"""Command-line steps from raw corpora to training files with a manifest."""
