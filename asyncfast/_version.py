"""The version, written here and nowhere else: setup.py reads it and gives it to the C side as AF_VERSION."""

__version__ = "0.1.0"
