"""What the one who runs the server asks."""
