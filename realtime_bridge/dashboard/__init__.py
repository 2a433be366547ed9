"""The live dashboard at ``/``: its files, what it reads besides the stream, and how people sign in to it."""

from realtime_bridge.dashboard.routes import dashboard_routes

__all__ = ["dashboard_routes"]
