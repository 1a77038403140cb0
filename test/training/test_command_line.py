"""What the command lines of training have in common."""

from training.command_line import report_error


def test_an_error_is_one_line_and_the_exit_code_1(capsys):
    assert report_error("train", ValueError("a.yaml: expected a mapping")) == 1
    assert capsys.readouterr() == ("", "train: a.yaml: expected a mapping\n")
