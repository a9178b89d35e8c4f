"""The WebSocket door: bidirectional rpcs as JSON text frames, made from the `socket` option of each."""
