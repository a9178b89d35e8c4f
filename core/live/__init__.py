"""The live bus: what happens now, told to those who watch, and resumable after a lost connection."""
