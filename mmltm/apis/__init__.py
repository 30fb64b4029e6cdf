"""What the command line tools share: configs, checks before a run, one-line errors."""
