"""Labels from CSV and YAML files."""

import pytest

from fer_ros.emotions import EMOTIONS
from fer_ros.evaluation.ground_truth import Label, LabelClock, LabelError
from fer_ros.evaluation.label_files import read_labels

HAPPY, SAD = EMOTIONS.index("happiness"), EMOTIONS.index("sadness")


HAPPY_LABEL = Label(0, 1.5, HAPPY)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.csv", "start_s, end_s, emotion\n0, 1.5, happy\n", [Label(0, 1.5, HAPPY)]),
        (
            "a.csv",
            "start_s,end_s,face,emotion\n0,1,f00002,Sadness\n1,2,,happy\n",
            [Label(0, 1, SAD, "f00002"), Label(1, 2, HAPPY)],
        ),
        ("a.csv", "stamp_s,emotion,bag\n3,sad,day\n", [Label(2.99, 3.01, SAD, bag="day")]),
        (
            "a.yml",
            "- {start_s: 0, end_s: 1, emotion: sad, x: 30, y: 40, face: ann}\n",
            [Label(0, 1, SAD, "ann", (30, 40, 30, 40))],
        ),
        (
            "a.csv",
            "start_s,end_s,emotion,x,y\n0,1,sad,30,40.5\n",
            [Label(0, 1, SAD, "30,40.5", (30, 40.5, 30, 40.5))],
        ),
        ("a.csv", "start_s;end_s;emotion\n0;1.5;happiness\n", [HAPPY_LABEL]),
        ("a.csv", "start_s;end_s;emotion\n0;1,5;happiness\n", [HAPPY_LABEL]),
        ("a.csv", "start_s\tend_s\temotion\n0\t1.5\thappiness\n", [HAPPY_LABEL]),
        ("a.csv", "Start_s, END_S,Emotion\n0,1.5, HAPPINESS \n", [HAPPY_LABEL]),
        ("a.csv", "start_s,end_s,emotion\n0,1.5,happy\n".encode("utf-16"), [HAPPY_LABEL]),
        ("a.csv", b"\xef\xbb\xbfstart_s,end_s,emotion\r\n0,1.5,Happy\r\n", [HAPPY_LABEL]),
        ("a.csv", "# of an annotator\n\nstart_s,end_s,emotion\n\n0,1.5,happy\n", [HAPPY_LABEL]),
        ("a.csv", "start_s,end_s,emotion\n00:00:00.0,00:01.5,happy\n", [HAPPY_LABEL]),
        (
            "a.csv",
            "start_s,end_s,emotion,clock\n12,13,happy,stamp\n1,2,sad,relative\n",
            [Label(12, 13, HAPPY, clock=LabelClock.STAMP), Label(1, 2, SAD)],
        ),
        (
            "a.csv",
            "start_s,end_s,emotion,face,bag\n0,9,sad,a,\n0,9,happy,b,\n1,2,happy,a,\n0,9,sad,a,\n"
            "0,9,happy,a,day\n",
            [
                Label(0, 9, SAD, "a"),
                Label(0, 9, HAPPY, "b"),
                Label(1, 2, HAPPY, "a"),
                Label(0, 9, SAD, "a"),
                Label(0, 9, HAPPY, "a", bag="day"),
            ],
        ),
        ("a.csv", "start_s,end_s,emotion\n1.7e9,1.8e9,sad\n", [Label(1.7e9, 1.8e9, SAD)]),
    ],
)
def test_valid_files(tmp_path, name, text, expected):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert read_labels(path) == expected


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "", "the file has no labels; expected a header such as start_s,end_s,emotion"),
        ("a.csv", "\n# nothing\n", "the file has no labels"),
        ("a.csv", "start_s,end_s,emotion\n", "the file has no labels"),
        ("a.yaml", "", "the file has no labels; expected a list of mappings"),
        ("a.csv", "0,1.5,happiness\n", "line 1: the header is missing: expected column names"),
        ("a.csv", "# hand-made\n0;1.5;happy\n", "line 2: the header is missing"),
        ("a.csv", "start_s,end_s,emotion\n0,1,happy\n1,2,\n", "line 3: no emotion"),
        ("a.csv", "start_s,end_s,emotion\n0,1,1\n", "line 2: unknown emotion '1'"),
        ("a.csv", "start_s,end_s,end_s,emotion\n0,1,1,sad\n", "two columns are called 'end_s'"),
        ("a.csv", "stamp_s,emotion,clock\n1,sad,ros\n", "clock: expected relative or stamp, found"),
        ("a.csv", "start_s,end_s\n0,1\n", "line 2: no emotion; expected one of neutral, happiness"),
        ("a.csv", "start_s,end_s,emotion\n0,1,glad\n", "line 2: unknown emotion 'glad'"),
        ("a.csv", "start_s,end_s,emotion\n0,1,sad\n2,1,sad\n", "line 3: expected start_s before"),
        ("a.csv", "start_s,end_s,emotion\nx,1,sad\n", "line 2: start_s: expected a number, found"),
        ("a.csv", "start_s,end_s,emotion\nnan,1,sad\n", "start_s: expected a finite number"),
        ("a.csv", "start_s,emotion\n0,sad\n", "line 2: end_s is missing"),
        ("a.csv", "start_s,end_s,emotion,x\n0,1,sad,3\n", "line 2: y is missing"),
        ("a.csv", "start,end_s,emotion\n0,1,sad\n", "unknown key 'start'; known: start_s, end_s"),
        ("a.csv", "start_s,end_s,emotion\n0,1,sad,4\n", "line 2: 4 values for 3 columns"),
        (
            "a.csv",
            "start_s,end_s,emotion\n0,2,happy\n1,2,sad\n0,1,sad\n",
            "line 4: sadness: line 2 has happiness for the same face from the same time",
        ),
        (
            "a.yaml",
            "- {stamp_s: 1, emotion: sad, face: a}\n- {stamp_s: 1, emotion: fear, face: a}\n",
            "label 2: fear: label 1 has sadness for the same face",
        ),
        ("a.csv", b"\xff\xfe\x00", "not a CSV file"),
        ("a.csv", b"\x00", "not a CSV file in UTF-8 or UTF-16: it has a zero byte"),
        ("a.csv", "start_s,end_s,emotion\n0,1,s\0d\n", "it has a zero byte"),
        ("a.yaml", "a: [", "not a YAML file"),
        ("a.yaml", "a: 3", "expected a list of labels"),
        ("a.yaml", "- {start_s: 0, emotion: sad}", "label 1: end_s is missing"),
    ],
)
def test_invalid_files(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(LabelError) as caught:
        read_labels(path)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
