"""Who is who: organisations, users, memberships, and credentials of every kind behind one `authenticate`."""
