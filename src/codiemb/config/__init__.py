"""All that knows Hydra: the schema, the checks before a run, the assembly of its parts, its run folder."""
