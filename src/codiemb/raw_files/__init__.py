"""Files as others write them, row by row: JSON lines, arrays, tables, Parquet; light, without torch."""
