"""One rank of many."""
