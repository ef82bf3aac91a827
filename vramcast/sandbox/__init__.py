"""What a script may not do, and where its files go."""
