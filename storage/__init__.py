"""What Plumbline remembers: the nouns, the one database, and a module for each noun. Imports nothing of ours."""
