"""What `clean` does to a text, and what it drops one for; each function sees one text and nothing else."""
