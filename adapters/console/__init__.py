"""What the command line does: each module is one subject, and prints nothing by itself."""
