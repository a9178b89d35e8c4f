"""Points on their way in and out, and the sources they come from. One module for each proto file."""
