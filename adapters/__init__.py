"""Doors to the services. Each reads the descriptors and knows no domain."""
