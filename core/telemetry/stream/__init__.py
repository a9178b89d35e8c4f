"""Live telemetry: sockets of devices and dashboards, and what passes between them."""
