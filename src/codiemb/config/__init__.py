"""The Hydra rim: schemas, preflight, building, run folders. OmegaConf and Hydra stay in here."""
