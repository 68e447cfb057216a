"""What a user did that we cannot go on with, said in one line."""


class UserError(Exception):
    """Bad input from outside: a file, a flag, a checkpoint.

    The message is one line that says what was given, what is wrong with it and
    what to do. Command-line tools print it to standard error and exit with code 2;
    every other exception is a defect of ours and keeps its traceback.
    """
