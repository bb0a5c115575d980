"""The steps of the road, a file each, which offers it under the name STEP."""
