"""What is known of single operators."""
