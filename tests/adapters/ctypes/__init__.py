"""`Region.ctypes`."""
