"""What came from what, in both directions: explain an answer, forget a user."""
