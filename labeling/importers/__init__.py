"""Files that people bring, read row by row. A file is taken whole or not at all; a refusal names the row.

Rows that say nothing, such as those with an empty answer, are left out, counted and reported.
"""
