"""What models learn: datasets, methods, runs, versions. Imports storage and labeling.engines."""
