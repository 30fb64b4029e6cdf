"""A package, lest another one of this name comes first: helpers are imported as ``tests.engine.small_runs``."""
