import pytest

from trainables.core.shots import ALL_SHOTS, read_shots, shots_title, shots_word


def test_what_is_written_is_read():
    assert [read_shots(str(shots_word(shots))) for shots in (5, ALL_SHOTS)] == [5, ALL_SHOTS]
    assert [shots_title(shots) for shots in (5, ALL_SHOTS)] == ["5 shots", "all labels"]


@pytest.mark.parametrize("given", ["0", "-1", "five", "ALL"])
def test_anything_else_is_refused(given):
    with pytest.raises(ValueError, match=given):
        read_shots(given)
