"""Revisioned JSON documents: every save is a new revision, and none is ever changed."""
