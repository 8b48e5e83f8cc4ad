"""`Region.cffi(ffi)`."""
