"""The user, which is its group too, that each of our images runs as."""

USERS = {"platform": 1000, "flows": 1000, "postgres": 999, "redis": 999, "seaweedfs": 1000}
