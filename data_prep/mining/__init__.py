"""Hard negatives: which of a query's nearest documents may be one, and which of those are taken."""
