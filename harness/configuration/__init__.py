"""The configuration: composed, checked before any work, and explained."""
