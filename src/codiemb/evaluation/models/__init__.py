"""Models that are not our encoder, made to be evaluated like it: mteb's registry and a hosted API."""
