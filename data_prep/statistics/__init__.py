"""For `stats`: what training files hold, and how many steps and tokens an epoch of them has."""
