"""The user ID that each of our images runs as, which is also its group ID."""

USERS = {"platform": 1000, "flows": 1000, "postgres": 999, "redis": 999, "seaweedfs": 1000}
