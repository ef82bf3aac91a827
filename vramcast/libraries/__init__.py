"""What libraries do differently here."""
