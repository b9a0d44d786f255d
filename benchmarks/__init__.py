"""One script for each number that the README claims. Each prints its bars and exits 1 when one falls short."""
