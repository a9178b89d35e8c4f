"""A model for development: it answers by rule, so that everything around a model can be tried without one."""
