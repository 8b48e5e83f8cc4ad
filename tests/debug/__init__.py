"""Tests of debug regions."""
