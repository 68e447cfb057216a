"""The command-line tools: flags, messages and exit codes; the work is done below."""
