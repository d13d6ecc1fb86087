"""Model folders: embedded, downloaded or made for tests."""
