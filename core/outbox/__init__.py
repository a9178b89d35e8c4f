"""Durable side effects: written with their cause, carried out afterwards, lost by no restart."""
