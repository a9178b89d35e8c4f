"""Coding plans: what a model is to do to the files of a project, with its context, conversation and pending changes."""
