"""Mail that the server sends: taken over with its cause, sent afterwards, and lost by no restart."""
