"""The gRPC door: every rpc as it stands in the protos, with reflection and health."""
