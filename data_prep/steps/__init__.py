"""The steps of `python -m data_prep STEP`: one file for each, which defines it as STEP."""
