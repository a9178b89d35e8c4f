"""Boards, pins and the people who make them. One module for each proto file."""
