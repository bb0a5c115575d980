"""From a public data set, or files that somebody has, to the tables of a source."""
