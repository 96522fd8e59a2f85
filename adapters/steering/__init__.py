"""Moving a prompt along a taste."""
