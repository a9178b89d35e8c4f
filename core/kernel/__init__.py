"""The one pipeline that every call runs through, whatever door it came in by."""
