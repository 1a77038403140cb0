"""Errors as people read them."""


def one_line(error: object) -> str:
    """The message of an error whose author may have needed several lines; its type, if it has none.

    Of an error of the system, what the system said, without number and file.
    """
    text = str(getattr(error, "strerror", None) or error)
    return " ".join(text.split()) or type(error).__name__


def with_file(error: object) -> str:
    """The line of an error, behind the file that it is about, if it names one."""
    file = getattr(error, "filename", None)
    return f"{file}: {one_line(error)}" if file else one_line(error)
