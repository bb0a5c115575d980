"""From the tables of a source to unified records, and those to files."""
