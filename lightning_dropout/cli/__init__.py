"""The console scripts. Nothing heavy is imported before the arguments have been looked at."""
