"""JSON Lines files: errors in a line, and files whose writer may be killed."""

import pytest
from pydantic import BaseModel

from edit_r1.shared.errors import DataError
from edit_r1.shared.jsonl import append_rows, cut_torn_end, read_objects, read_rows, write_rows


class Word(BaseModel):
    text: str


def test_blank_lines_count_and_are_not_read(tmp_path):
    path = tmp_path / "words.jsonl"
    path.write_bytes('{"text": "été"}\r\n\n{"text": "a\u2028b"}'.encode())
    assert [(place, word.text) for place, word in read_objects(path, Word)] == [
        (f"{path}:1", "été"),
        (f"{path}:3", "a\u2028b"),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "not JSON"),
        (b'"a"', "expected an object, found a str"),
        (b'{"text": "\xe9"}', "not UTF-8"),
        (b'{"text": 1}', "text: Input should be a valid string"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, line, message):
    path = tmp_path / "words.jsonl"
    path.write_bytes(b'{"text": "fine"}\n' + line + b"\n")
    with pytest.raises(DataError, match=rf"words\.jsonl:2: {message}"):
        list(read_objects(path, Word))


@pytest.mark.parametrize("kept", range(0, 40, 3))
def test_a_file_cut_off_anywhere_keeps_its_whole_lines_and_grows_on(tmp_path, kept):
    path = tmp_path / "words.jsonl"
    append_rows(path, [{"text": "one"}, {"text": "zwei, größer"}])
    path.write_bytes(whole := path.read_bytes()[:kept])
    expected = ["one", "zwei, größer"][: whole.count(b"\n")]
    assert [row["text"] for _, row in read_rows(path, growing=True)] == expected
    cut_torn_end(path)
    append_rows(path, [{"text": "new"}])
    assert [row["text"] for _, row in read_rows(path)] == [*expected, "new"]


def test_a_file_is_replaced_by_all_rows_or_by_none(tmp_path):
    path = tmp_path / "new/words.jsonl"
    write_rows(path, [{"text": "one"}])

    def rows():
        yield {"text": "two"}
        raise InterruptedError

    with pytest.raises(InterruptedError):
        write_rows(path, rows())
    assert [row["text"] for _, row in read_rows(path)] == ["one"]
