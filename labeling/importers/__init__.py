"""Files that people bring, read row by row. A file is taken whole or not at all; a refusal names the row."""
