"""What Busbar does, apart from how it is reached. Nothing here knows a transport."""
